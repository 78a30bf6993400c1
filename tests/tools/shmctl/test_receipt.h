// A receipt written down in a test, in few words.
#ifndef BATON_TESTS_TOOLS_SHMCTL_TEST_RECEIPT_H_
#define BATON_TESTS_TOOLS_SHMCTL_TEST_RECEIPT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "capnp/message.h"

#include "ipc/schema/receipt.capnp.h"

namespace baton::testing {

class TestReceipt {
 public:
  // Started at 2026-05-01 12:00:01.250 UTC; states with their times in microseconds.
  TestReceipt(const std::string& outcome,
              const std::vector<std::pair<std::string, uint64_t>>& states) {
    auto receipt = message_->initRoot<ipc::schema::Receipt>();
    receipt.setGeneration(1);
    receipt.setSuccessor(outcome == "swapped" ? 2 : outcome == "kept-old" ? 1 : 0);
    receipt.setTrigger("command");
    receipt.setStrategy("exclusive");
    receipt.setOutcome(outcome);
    receipt.setVerdict("freed");
    receipt.setStartedUnixMs(1'777'636'801'250);
    auto list = receipt.initStates(static_cast<uint32_t>(states.size()));
    for (uint32_t i = 0; i < list.size(); ++i) {
      list[i].setState(states[i].first);
      list[i].setNs(states[i].second * 1000);
    }
  }

  ipc::schema::Receipt::Builder operator*() { return message_->getRoot<ipc::schema::Receipt>(); }
  ipc::schema::Receipt::Reader reader() { return (**this).asReader(); }

 private:
  std::unique_ptr<capnp::MallocMessageBuilder> message_ =
      std::make_unique<capnp::MallocMessageBuilder>();
};

}  // namespace baton::testing

#endif  // BATON_TESTS_TOOLS_SHMCTL_TEST_RECEIPT_H_

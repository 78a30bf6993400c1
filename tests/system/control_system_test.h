// A SystemTest that asks its server things over the control socket, as shmctl does.
#ifndef BATON_TESTS_SYSTEM_CONTROL_SYSTEM_TEST_H_
#define BATON_TESTS_SYSTEM_CONTROL_SYSTEM_TEST_H_

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "tests/runtime/supervisor/control_client.h"
#include "tests/system/system_test_base.h"

namespace baton::testing {

class ControlSystemTest : public SystemTest {
 protected:
  absl::StatusOr<ControlClient> Client() const {
    return ControlClient::Open(options_.run_directory, options_.name);
  }
  ControlClient::ServerStatus Status() const {
    absl::StatusOr<ControlClient> client = Client();
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? client->Status() : ControlClient::ServerStatus();
  }
  // Waits until workers have taken so many requests, over all generations.
  bool WaitUntilTaken(uint64_t count) const {
    return WaitFor([&] {
      absl::StatusOr<ControlClient> client = Client();
      return client.ok() && client->Status().taken >= count;
    });
  }
  // Waits for the reload's end; OK when it swapped.
  absl::Status Reload() const {
    absl::StatusOr<ControlClient> client = Client();
    if (!client.ok()) return client.status();
    const ControlClient::Reloaded reloaded = client->Reload();
    if (!reloaded.status.ok() || reloaded.outcome == "swapped") return reloaded.status;
    return absl::AbortedError(absl::StrCat(reloaded.outcome, ": ", reloaded.reason));
  }
  static std::vector<uint8_t> Pattern(size_t bytes, uint8_t start) {
    std::vector<uint8_t> pattern(bytes);
    std::iota(pattern.begin(), pattern.end(), start);
    return pattern;
  }
};

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_CONTROL_SYSTEM_TEST_H_

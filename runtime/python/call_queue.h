// Many calls at once on one channel: for batches, and for event loops.
#ifndef BATON_RUNTIME_PYTHON_CALL_QUEUE_H_
#define BATON_RUNTIME_PYTHON_CALL_QUEUE_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

#include "baton/channel.h"
#include "runtime/python/front_session.h"
#include "runtime/python/method_object.h"

namespace baton::python {

// The type `_front.CallQueue`. Ends come in any order, each with the ticket
// that Submit gave.
//
// Ownership: keeps its session and its channel; outstanding calls end with it.
// Thread safety: the caller holds the GIL. One thread at a time: while one
// waits in Wait, others get FAILED_PRECONDITION.
class CallQueue {
 public:
  static std::unique_ptr<CallQueue> Open(std::shared_ptr<FrontSession> session);

  // Throws baton.ResourceExhausted where the channel is full: let some end.
  uint64_t Submit(pybind11::handle method, const pybind11::tuple& positional,
                  const pybind11::dict& keywords);
  // Starts a call that streams, on this queue's channel: the `_front.Stream`, and
  // the items that were given for it, or None.
  pybind11::tuple StartStream(pybind11::handle method, const pybind11::tuple& positional,
                              const pybind11::dict& keywords);
  // (ticket, True, result), (ticket, False, exception), or None.
  pybind11::object Poll();
  // As Poll; waits for `seconds` at most, without the GIL.
  pybind11::object Wait(double seconds);
  // False where it had ended already.
  bool Cancel(uint64_t ticket);
  // As Channel::Arm, ClearEvent and event_fd.
  bool Arm();
  void ClearEvent();
  int FileNumber() const { return channel_->channel().event_fd(); }
  uint32_t outstanding() const { return channel_->channel().outstanding(); }

 private:
  struct Pending {
    const MethodInfo* info;
    ResultDetail detail;
  };
  CallQueue(std::shared_ptr<FrontSession> session, std::shared_ptr<SharedChannel> channel)
      : session_(std::move(session)), channel_(std::move(channel)) {}
  void CheckFree() const;
  pybind11::object ToTuple(std::optional<Outcome> outcome);

  const std::shared_ptr<FrontSession> session_;
  const std::shared_ptr<SharedChannel> channel_;
  std::unordered_map<uint64_t, Pending> pending_;  // by ticket
  bool waiting_ = false;
};

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_CALL_QUEUE_H_

#include "runtime/python/call_queue.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

#include "runtime/python/arguments.h"
#include "runtime/python/python_error.h"
#include "runtime/python/results.h"
#include "runtime/python/stream_object.h"

namespace baton::python {

namespace py = pybind11;

namespace {

constexpr absl::Duration kSignalPeriod = absl::Milliseconds(50);

}  // namespace

std::unique_ptr<CallQueue> CallQueue::Open(std::shared_ptr<FrontSession> session) {
  std::shared_ptr<SharedChannel> channel = ValueOrThrow(session->Open(0));
  return std::unique_ptr<CallQueue>(new CallQueue(std::move(session), std::move(channel)));
}

void CallQueue::CheckFree() const {
  ThrowIfError(session_->CheckUsable());
  if (waiting_) {
    ThrowStatus(absl::FailedPreconditionError(
        "another thread waits on this queue of calls: give each thread its own"));
  }
}

uint64_t CallQueue::Submit(py::handle method, const py::tuple& positional,
                           const py::dict& keywords) {
  CheckFree();
  const MethodState& state = MethodOf(method);
  if (state.session != session_) throw py::type_error("this method is another front's");
  if (state.info->method.streams()) {
    throw py::type_error("a method that streams is called on its own, not in a queue");
  }
  Arguments arguments(*state.info);
  if (!arguments.Bind(positional.ptr(), keywords.ptr())) throw py::error_already_set();
  ThrowIfError(arguments.Encode(state.settings.secrets.ptr()));
  const SharedChannel::Use use(*channel_);
  Request request = ValueOrThrow(arguments.Fill(*channel_));
  const Ticket ticket =
      ValueOrThrow(channel_->channel().Submit(std::move(request), state.settings.options));
  pending_[ticket.id] = {state.info, state.settings.detail};
  return ticket.id;
}

py::tuple CallQueue::StartStream(py::handle method, const py::tuple& positional,
                                 const py::dict& keywords) {
  CheckFree();
  const MethodState& state = MethodOf(method);
  if (state.session != session_) throw py::type_error("this method is another front's");
  Arguments arguments(*state.info);
  if (!arguments.Bind(positional.ptr(), keywords.ptr())) throw py::error_already_set();
  ThrowIfError(arguments.Encode(state.settings.secrets.ptr()));
  std::unique_ptr<StreamCall> stream =
      ValueOrThrow(StreamCall::Open(session_, channel_, *state.info, state.settings, arguments));
  const py::handle items =
      arguments.stream() == nullptr ? py::none() : py::handle(arguments.stream());
  return py::make_tuple(std::move(stream), items);
}

py::object CallQueue::ToTuple(std::optional<Outcome> outcome) {
  if (!outcome) return py::none();
  const uint64_t ticket = outcome->ticket.id;
  const auto found = pending_.find(ticket);
  if (found == pending_.end()) return py::none();
  const Pending pending = found->second;
  pending_.erase(found);
  absl::Status status = outcome->response.status();
  if (status.ok()) {
    absl::StatusOr<py::object> result =
        ToResult(*pending.info, pending.detail, channel_, *std::move(outcome->response));
    if (result.ok()) return py::make_tuple(ticket, true, *std::move(result));
    status = result.status();
  }
  py::object exception = StatusException(status);
  if (!exception) throw py::error_already_set();
  return py::make_tuple(ticket, false, std::move(exception));
}

py::object CallQueue::Poll() {
  CheckFree();
  const SharedChannel::Use use(*channel_);
  return ToTuple(channel_->channel().Poll());
}

py::object CallQueue::Wait(double seconds) {
  CheckFree();
  const absl::Time deadline = absl::Now() + absl::Seconds(std::max(seconds, 0.0));
  const SharedChannel::Use use(*channel_);
  waiting_ = true;
  std::optional<Outcome> outcome = channel_->channel().Poll();
  bool interrupted = false;
  while (!outcome && !interrupted && channel_->channel().outstanding() > 0) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) break;
    {
      const py::gil_scoped_release release;
      outcome = channel_->channel().Wait(std::min(left, kSignalPeriod));
    }
    interrupted = PyErr_CheckSignals() != 0;
  }
  waiting_ = false;
  if (interrupted) throw py::error_already_set();
  return ToTuple(std::move(outcome));
}

bool CallQueue::Cancel(uint64_t ticket) {
  CheckFree();
  const SharedChannel::Use use(*channel_);
  pending_.erase(ticket);
  return channel_->channel().Cancel(Ticket{ticket}).ok();
}

bool CallQueue::Arm() {
  CheckFree();
  const SharedChannel::Use use(*channel_);
  return channel_->channel().Arm();
}

void CallQueue::ClearEvent() {
  CheckFree();
  const SharedChannel::Use use(*channel_);
  channel_->channel().ClearEvent();
}

}  // namespace baton::python

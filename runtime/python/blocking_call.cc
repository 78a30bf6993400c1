#include "runtime/python/blocking_call.h"

#include <sched.h>

#include <utility>

#include "runtime/python/python_error.h"

namespace baton::python {

namespace py = pybind11;

namespace {

constexpr absl::Duration kSignalPeriod = absl::Milliseconds(50);
// Some microseconds. To let go of the GIL and take it again costs as much where
// nobody else wants it, and up to 5 ms where somebody does.
constexpr int kPollsWithGil = 100;

bool HasTwoCpus() {
  cpu_set_t allowed;
  return ::sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) > 1;
}

}  // namespace

std::optional<Outcome> AwaitOutcome(Channel& channel) {
  static const bool spin = HasTwoCpus();
  for (int i = 0; spin && i < kPollsWithGil; ++i) {
    if (std::optional<Outcome> outcome = channel.Poll()) return outcome;
  }
  for (;;) {
    std::optional<Outcome> outcome;
    {
      const py::gil_scoped_release release;
      outcome = channel.Wait(kSignalPeriod);
    }
    if (outcome) return outcome;
    if (PyErr_CheckSignals() != 0) return std::nullopt;
    if (channel.outstanding() == 0) {
      SetStatusError(absl::FailedPreconditionError(
          "nothing is outstanding on this channel: this process may be a fork of the one that "
          "attached"));
      return std::nullopt;
    }
  }
}

py::object SubmitAndWait(const std::shared_ptr<SharedChannel>& channel, const MethodInfo& info,
                         const CallSettings& settings, Request request, bool* broken) {
  absl::StatusOr<Ticket> ticket = channel->channel().Submit(std::move(request), settings.options);
  if (!ticket.ok()) {
    *broken = absl::IsDataLoss(ticket.status());
    return py::reinterpret_steal<py::object>(SetStatusError(ticket.status()));
  }
  std::optional<Outcome> outcome = AwaitOutcome(channel->channel());
  if (!outcome) {
    static_cast<void>(channel->channel().Cancel(*ticket));
    return {};
  }
  if (!outcome->response.ok()) {
    *broken = absl::IsDataLoss(outcome->response.status());
    return py::reinterpret_steal<py::object>(SetStatusError(outcome->response.status()));
  }
  absl::StatusOr<py::object> result =
      ToResult(info, settings.detail, channel, *std::move(outcome->response));
  if (!result.ok()) return py::reinterpret_steal<py::object>(SetStatusError(result.status()));
  return *std::move(result);
}

py::object CallAndWait(const std::shared_ptr<FrontSession>& session, const MethodInfo& info,
                       const CallSettings& settings, Arguments& arguments) {
  const auto fail = [](const absl::Status& status) {
    return py::reinterpret_steal<py::object>(SetStatusError(status));
  };
  if (absl::Status usable = session->CheckUsable(); !usable.ok()) return fail(usable);
  for (bool again : {true, false}) {
    absl::StatusOr<std::shared_ptr<SharedChannel>> opened =
        session->Take(arguments.request_bytes());
    if (!opened.ok()) return fail(opened.status());
    TakenChannel taken(*session, *std::move(opened));
    const std::shared_ptr<SharedChannel> channel = taken.shared();
    const SharedChannel::Use use(*channel);
    absl::StatusOr<Request> request = arguments.Fill(*channel);
    if (!request.ok()) {
      // Full of what others keep of it: it ends with that.
      if (absl::IsResourceExhausted(request.status())) taken.Drop();
      if (absl::IsResourceExhausted(request.status()) && again) continue;
      return fail(request.status());
    }
    bool broken = false;
    py::object result = SubmitAndWait(channel, info, settings, *std::move(request), &broken);
    if (broken) taken.Drop();
    return result;
  }
  return fail(absl::InternalError("a call was neither made nor refused"));
}

}  // namespace baton::python

// One call, from arguments to result, waited for.
#ifndef BATON_RUNTIME_PYTHON_BLOCKING_CALL_H_
#define BATON_RUNTIME_PYTHON_BLOCKING_CALL_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>

#include "baton/channel.h"
#include "runtime/python/arguments.h"
#include "runtime/python/front_session.h"
#include "runtime/python/results.h"

namespace baton::python {

// How a method is called, beside its arguments.
struct CallSettings {
  CallOptions options;
  absl::Duration stream_timeout = absl::Hours(24);
  ResultDetail detail = ResultDetail::kValue;
  pybind11::object secrets;  // a JSON object's text; null: none
};

// What follows is called with the GIL held. It is let go of while they wait;
// signals are looked at every 50 ms meanwhile, so that KeyboardInterrupt and
// handlers of the program's own come through. Null: a Python error is set.

// The next outcome of `channel`, which the caller uses.
std::optional<Outcome> AwaitOutcome(Channel& channel);

// Encodes, fills, submits and waits. Where leases of earlier results fill a
// channel, another one is opened.
pybind11::object CallAndWait(const std::shared_ptr<FrontSession>& session, const MethodInfo& info,
                             const CallSettings& settings, Arguments& arguments);

// Submits `request` of `channel`, which the caller uses, and waits.
pybind11::object SubmitAndWait(const std::shared_ptr<SharedChannel>& channel,
                               const MethodInfo& info, const CallSettings& settings,
                               Request request, bool* broken);

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_BLOCKING_CALL_H_

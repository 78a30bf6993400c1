// A call that gives any number of results: an iterator in Python.
#ifndef BATON_RUNTIME_PYTHON_STREAM_OBJECT_H_
#define BATON_RUNTIME_PYTHON_STREAM_OBJECT_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "runtime/python/arguments.h"
#include "runtime/python/blocking_call.h"
#include "runtime/python/front_session.h"

namespace baton::python {

// What the call gives its caller: a Stream, or with a stream of items what
// baton._stream makes of it. Null: a Python error is set.
pybind11::object StartStream(const std::shared_ptr<FrontSession>& session, const MethodInfo& info,
                             const CallSettings& settings, const Arguments& arguments);

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_STREAM_OBJECT_H_

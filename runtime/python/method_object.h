// A method of a served model as a Python object that can be called.
#ifndef BATON_RUNTIME_PYTHON_METHOD_OBJECT_H_
#define BATON_RUNTIME_PYTHON_METHOD_OBJECT_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "runtime/python/blocking_call.h"
#include "runtime/python/front_session.h"

namespace baton::python {

// What is behind a Method object.
struct MethodState {
  std::shared_ptr<FrontSession> session;
  const MethodInfo* info = nullptr;  // the session's
  CallSettings settings;
};

// The type `_front.Method`, added to `module`. It is made with CPython's own
// interface, not pybind11's, whose dispatch costs more than a round trip:
// calls go through a vectorcall.
void AddMethodType(pybind11::module_& module);

// All with the GIL held.
pybind11::object MakeMethod(MethodState state);
// Throws a TypeError where `object` is none.
const MethodState& MethodOf(pybind11::handle object);

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_METHOD_OBJECT_H_

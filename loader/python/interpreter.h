// The process's one Python interpreter.
#ifndef BATON_LOADER_PYTHON_INTERPRETER_H_
#define BATON_LOADER_PYTHON_INTERPRETER_H_

#include <pybind11/pybind11.h>

#include <string>

#include "absl/status/status.h"

namespace baton::python {

// Starts the interpreter; does nothing where it runs already. `executable` is
// the python whose packages are to be found, such as that of a virtual
// environment; empty: $VIRTUAL_ENV's, or else the one that this was built for.
//
// Python handles no signal and writes no bytecode. It is never finalised: it
// lives until the process ends. FAILED_PRECONDITION where it does not start or
// lacks numpy. Afterwards no thread holds the GIL.
absl::Status StartInterpreter(const std::string& executable);

// Lets this thread keep what Python has of it, threading.local's values among it,
// from one Gil to the next, until it ends; nothing where it does already, as the thread
// that started the interpreter. Else it is forgotten each time. Without the GIL.
void KeepThreadState();

// Holds the GIL in its scope. For any thread; may be nested.
class Gil {
 public:
  Gil() : state_(PyGILState_Ensure()) {}
  ~Gil() { PyGILState_Release(state_); }
  Gil(const Gil&) = delete;
  Gil& operator=(const Gil&) = delete;

 private:
  const PyGILState_STATE state_;
};

// Lets others have the GIL in its scope.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() { PyEval_RestoreThread(state_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* const state_;
};

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_INTERPRETER_H_

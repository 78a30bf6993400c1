// Statuses as Python exceptions: the classes of baton.errors.
#ifndef BATON_RUNTIME_PYTHON_PYTHON_ERROR_H_
#define BATON_RUNTIME_PYTHON_PYTHON_ERROR_H_

#include <pybind11/pybind11.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton::python {

// All of these need the GIL.

// The exception object for a status that is not OK. Null, with a Python error
// set, where not even that can be made.
pybind11::object StatusException(const absl::Status& status);

// Sets the Python error for `status`; always nullptr, to be returned.
PyObject* SetStatusError(const absl::Status& status);

// For functions that pybind11 calls, and which therefore may throw.
[[noreturn]] void ThrowStatus(const absl::Status& status);

inline void ThrowIfError(const absl::Status& status) {
  if (!status.ok()) ThrowStatus(status);
}

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) ThrowStatus(value.status());
  return *std::move(value);
}

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_PYTHON_ERROR_H_

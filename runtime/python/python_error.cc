#include "runtime/python/python_error.h"

#include <optional>
#include <string>

#include "absl/time/time.h"

#include "baton/retry_after.h"

namespace baton::python {

namespace py = pybind11;

py::object StatusException(const absl::Status& status) {
  const auto module = py::reinterpret_steal<py::object>(PyImport_ImportModule("baton.errors"));
  if (!module) return {};
  const std::string message(status.message());
  const std::optional<absl::Duration> retry_after = RetryAfter(status);
  const auto retry = py::reinterpret_steal<py::object>(
      retry_after ? PyFloat_FromDouble(absl::ToDoubleSeconds(*retry_after))
                  : (Py_INCREF(Py_None), Py_None));
  // What a model wrote need not be UTF-8.
  const auto text = py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(
      message.data(), static_cast<Py_ssize_t>(message.size()), "backslashreplace"));
  if (!retry || !text) return {};
  return py::reinterpret_steal<py::object>(PyObject_CallMethod(module.ptr(), "_from_status", "iOO",
                                                               static_cast<int>(status.code()),
                                                               text.ptr(), retry.ptr()));
}

PyObject* SetStatusError(const absl::Status& status) {
  const py::object exception = StatusException(status);
  if (exception) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  }
  return nullptr;
}

void ThrowStatus(const absl::Status& status) {
  SetStatusError(status);
  throw py::error_already_set();
}

}  // namespace baton::python

#include "loader/python/model_errors.h"

#include <pybind11/pybind11.h>

#include "absl/strings/str_cat.h"

#include "loader/python/value_codec.h"

namespace baton::python {

namespace py = pybind11;

std::string TakeErrorText(const ModelName& model) {
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (value != nullptr && trace != nullptr) PyException_SetTraceback(value, trace);
  std::string text;
  if (value != nullptr) {
    try {
      text = py::module_::import("baton._errors")
                 .attr("describe")(py::handle(value), model.folder)
                 .cast<std::string>();
    } catch (py::error_already_set&) {
    } catch (const py::cast_error&) {
    }
  }
  if (text.empty()) {
    PyErr_Restore(type, value, trace);
    return TakePythonError();
  }
  // With it go the frames, and what their variables hold.
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
  return text;
}

absl::Status TakeModelError(const ModelName& model, const std::string& what,
                            absl::StatusCode code) {
  return ModelError(model, what, absl::Status(code, TakeErrorText(model)));
}

absl::Status ModelError(const ModelName& model, const std::string& what,
                        const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat("python model '", model.name, "': ", what,
                                   what.empty() ? "" : ": ", std::string(status.message())));
}

}  // namespace baton::python

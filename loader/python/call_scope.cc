#include "loader/python/call_scope.h"

#include <string.h>

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/redact.h"
#include "loader/python/method_plan.h"
#include "loader/python/python_log.h"

namespace baton::python {

namespace py = pybind11;

InputLease::InputLease(loader::CallContext& call) {
  std::shared_ptr<void> kept = call.KeepInputs();
  if (kept == nullptr) return;
  owner_ = py::capsule(new std::shared_ptr<void>(std::move(kept)),
                       [](void* lease) { delete static_cast<std::shared_ptr<void>*>(lease); });
}

CallContextVars::CallContextVars()
    : context_(py::reinterpret_steal<py::object>(PyContext_CopyCurrent())) {}

absl::Status CallContextVars::TakeSecrets(const TensorView& input) {
  if (input.dtype == DType::kInvalid) return absl::OkStatus();  // left out
  const Scope scope(*this);
  std::string text(reinterpret_cast<const char*>(input.bytes.data()), input.bytes.size());
  std::string wrong;
  try {
    const py::object values =
        py::module_::import("baton._context").attr("_enter_secrets")(py::bytes(text));
    for (const py::handle value : values) secrets_.push_back(value.cast<std::string>());
  } catch (const py::error_already_set& error) {
    wrong = error.matches(PyExc_ValueError) ? "is no JSON object of texts" : "cannot be taken";
  }
  ::explicit_bzero(text.data(), text.size());
  if (wrong.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", kSecretsInput, "' ", wrong));
}

absl::Status CallContextVars::WithoutSecrets(const absl::Status& status) const {
  if (status.ok() || secrets_.empty()) return status;
  const std::vector<std::string_view> values(secrets_.begin(), secrets_.end());
  return absl::Status(status.code(), ipc::Redacted(std::string(status.message()), values));
}

CallContextVars::Scope::Scope(const CallContextVars& vars) : context_(vars.context_) {
  if (!context_ || PyContext_Enter(context_.ptr()) != 0) PyErr_Clear();
  if (!vars.secrets_.empty()) PythonLog::SetCallSecrets(&vars.secrets_);
}

CallContextVars::Scope::~Scope() {
  PythonLog::EndLines();
  PythonLog::SetCallSecrets(nullptr);
  // A Python error that is set stays set.
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  if (!context_ || PyContext_Exit(context_.ptr()) != 0) PyErr_Clear();
  PyErr_Restore(type, value, trace);
}

}  // namespace baton::python

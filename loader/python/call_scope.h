// What surrounds every piece of a call: the caller's own context and secrets,
// and the memory of its inputs.
#ifndef BATON_LOADER_PYTHON_CALL_SCOPE_H_
#define BATON_LOADER_PYTHON_CALL_SCOPE_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "baton/tensor.h"
#include "loader/model.h"

namespace baton::python {

// The object that views of a call's inputs hang on. With it their block stays
// as it is until the last of them is gone, also after the call.
//
// Thread safety: with the GIL; the object itself may go on any thread.
class InputLease {
 public:
  InputLease() = default;
  // None where the block cannot be kept: then inputs have to be copied.
  explicit InputLease(loader::CallContext& call);
  // Whether somebody else holds the owner: a view.
  bool in_use() const { return owner_ && Py_REFCNT(owner_.ptr()) > 1; }
  pybind11::handle owner() const { return owner_ ? owner_.ptr() : Py_None; }

 private:
  pybind11::object owner_;
};

// One call's contextvars, with its secrets in them.
class CallContextVars {
 public:
  CallContextVars();

  // Makes the secrets of `input` those of baton.get_secret in this context.
  // INVALID_ARGUMENT, without a word of them. Before the first Scope.
  absl::Status TakeSecrets(const TensorView& input);

  // `status` without the call's secrets in its message (A16).
  absl::Status WithoutSecrets(const absl::Status& status) const;

  // Code runs in this context while it lives; its log lines are without the
  // call's secrets.
  class Scope {
   public:
    explicit Scope(const CallContextVars& vars);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const pybind11::handle context_;
  };

 private:
  pybind11::object context_;
  std::vector<std::string> secrets_;
};

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_CALL_SCOPE_H_

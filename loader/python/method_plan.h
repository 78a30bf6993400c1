// What is known of a method before it is called, so that a call looks up and
// inspects nothing.
//
// Thread safety: plans are read with the GIL held, and never change.
#ifndef BATON_LOADER_PYTHON_METHOD_PLAN_H_
#define BATON_LOADER_PYTHON_METHOD_PLAN_H_

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "baton/tensor.h"

namespace baton::python {

// The input of every Python method that carries secrets of its caller's own: a
// JSON object of texts, for baton.get_secret.
inline constexpr char kSecretsInput[] = "baton.secrets";

// The last output of the methods of a model that calls set_output_context: what
// it was told, as a JSON object.
inline constexpr char kContextOutput[] = "baton.context";

struct MethodPlan {
  struct Parameter {
    pybind11::object arrive;  // what the codec gave -> what the annotation promises; null: as it is
    pybind11::object left_out;  // the value without one; null: it has to be there
  };
  // How one returned object becomes the outputs.
  enum class Outputs { kSingle, kTuple, kFields };

  Method method;                               // its last input is kSecretsInput
  std::vector<Parameter> parameters;           // one for each input but the last
  std::optional<size_t> streamed;              // which of them is an iterator
  std::vector<pybind11::object> leave;         // the reverse of `arrive`, for each output
  std::vector<pybind11::object> output_names;  // but for kContextOutput
  pybind11::object context;  // a function that gives what kContextOutput holds; null: there is none
  Outputs outputs = Outputs::kSingle;
  pybind11::object keyword_names;  // a tuple, of the last parameters; null: none
  bool has_views = false;          // inputs that the model sees in place
  pybind11::object function;       // bound to the model, once there is one

  size_t secrets_input() const { return parameters.size(); }
};

// From what baton._signature.methods_of gives. Throws pybind11's exceptions:
// the two are of one build.
std::vector<MethodPlan> PlanMethods(const pybind11::list& described);

// The parameters as objects, in order; the streamed one stays null. `owner` as
// in Decode. INVALID_ARGUMENT, with the parameter's name.
absl::Status DecodeParameters(const MethodPlan& plan, std::span<const TensorView> inputs,
                              pybind11::handle owner, std::vector<pybind11::object>& parameters);

// Applies `conversion` of a parameter or an output. INVALID_ARGUMENT where it
// is refused. No null handles but `conversion`.
absl::Status Convert(const std::string& name, const pybind11::object& conversion,
                     pybind11::object& value);

// Calls the method. A null object: a Python error is set.
pybind11::object CallMethod(const MethodPlan& plan,
                            const std::vector<pybind11::object>& parameters);

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_METHOD_PLAN_H_

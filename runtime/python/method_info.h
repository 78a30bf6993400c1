// A method of a served model, prepared for being called from Python.
#ifndef BATON_RUNTIME_PYTHON_METHOD_INFO_H_
#define BATON_RUNTIME_PYTHON_METHOD_INFO_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "baton/tensor.h"

namespace baton::python {

// The optional input of models written in Python that carries the secrets of
// one call.
inline constexpr std::string_view kSecretsInput = "baton.secrets";

// The last output of models written in Python that call set_output_context: what
// it was told, as a JSON object.
inline constexpr std::string_view kContextOutput = "baton.context";

// How the outputs of a response become one Python object.
enum class ResultShape : uint8_t {
  kNothing,  // no output: None
  kValue,    // one: its value
  kTuple,    // output_0, output_1, ...: a tuple
  kNamed,    // others: named fields
};

// Constant once made. Holds Python objects: made and destroyed with the GIL.
struct MethodInfo {
  MethodInfo(uint32_t index, const Method& method);

  struct Parameter {
    pybind11::object name;  // interned
    uint32_t input = 0;     // of method.signature.inputs
    bool optional = false;
    bool streamed = false;
  };

  const uint32_t index;
  const Method method;
  std::vector<Parameter> parameters;  // without secrets; in the signature's order
  size_t required = 0;                // the first so many have to be given
  std::optional<uint32_t> secrets_input;
  ResultShape results = ResultShape::kValue;
  size_t values = 0;  // the first so many outputs are the result
  std::optional<uint32_t> context_output;
  pybind11::tuple output_names;
};

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_METHOD_INFO_H_

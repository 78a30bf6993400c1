#include "runtime/python/method_info.h"

#include <span>

#include "absl/strings/str_cat.h"

namespace baton::python {

namespace py = pybind11;

namespace {

ResultShape ShapeOf(std::span<const TensorSpec> outputs) {
  if (outputs.empty()) return ResultShape::kNothing;
  bool numbered = true;
  for (size_t i = 0; i < outputs.size(); ++i) {
    numbered = numbered && outputs[i].name == absl::StrCat("output_", i);
  }
  if (numbered) return ResultShape::kTuple;
  return outputs.size() == 1 ? ResultShape::kValue : ResultShape::kNamed;
}

py::object Interned(const std::string& text) {
  PyObject* name = PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  if (name == nullptr) throw py::error_already_set();
  PyUnicode_InternInPlace(&name);
  return py::reinterpret_steal<py::object>(name);
}

}  // namespace

MethodInfo::MethodInfo(uint32_t method_index, const Method& of)
    : index(method_index), method(of), output_names(of.signature.outputs.size()) {
  const std::vector<TensorSpec>& inputs = method.signature.inputs;
  for (uint32_t i = 0; i < inputs.size(); ++i) {
    const TensorSpec& spec = inputs[i];
    if (spec.content == Content::kSecret && spec.name == kSecretsInput) {
      secrets_input = i;
      continue;
    }
    parameters.push_back({.name = Interned(spec.name),
                          .input = i,
                          .optional = spec.optional,
                          .streamed = spec.streamed});
    if (!spec.optional) ++required;
  }
  const std::vector<TensorSpec>& outputs = method.signature.outputs;
  values = outputs.size();
  if (values > 0 && outputs.back().name == kContextOutput &&
      outputs.back().content == Content::kJson) {
    context_output = static_cast<uint32_t>(--values);
  }
  results = ShapeOf(std::span(outputs).first(values));
  for (size_t i = 0; i < outputs.size(); ++i) output_names[i] = Interned(outputs[i].name);
}

}  // namespace baton::python

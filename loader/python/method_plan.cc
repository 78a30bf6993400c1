#include "loader/python/method_plan.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"

#include "loader/python/value_codec.h"

namespace baton::python {
namespace {

namespace py = pybind11;

// A tuple of baton._signature._spec.
TensorSpec SpecFrom(const std::string& name, const py::tuple& described) {
  TensorSpec spec;
  spec.name = name;
  spec.content = static_cast<Content>(described[0].cast<int>());
  spec.dtype = static_cast<DType>(described[1].cast<int>());
  for (const py::handle dim : described[2].cast<py::tuple>()) {
    spec.shape.push_back(dim.cast<int64_t>());
  }
  spec.optional = described[3].cast<bool>();
  spec.streamed = described[4].cast<bool>();
  spec.type_text = described[5].cast<std::string>();
  spec.default_text = described[6].cast<std::string>();
  return spec;
}

// Null in place of None or of what is not there.
py::object Given(const py::dict& described, const char* key) {
  if (!described.contains(key) || described[key].is_none()) return {};
  return described[key];
}

bool IsViewed(Content content) {
  return content == Content::kTensor || content == Content::kImage || content == Content::kValue;
}

MethodPlan PlanOf(const py::dict& described) {
  MethodPlan plan;
  plan.method.name = described["name"].cast<std::string>();
  plan.method.doc = described["doc"].cast<std::string>();
  plan.method.streams_inputs = described["streams_inputs"].cast<bool>();
  plan.method.streams_outputs = described["streams_outputs"].cast<bool>();
  py::list keywords;
  for (const py::handle entry : described["inputs"].cast<py::list>()) {
    const auto input = entry.cast<py::dict>();
    TensorSpec spec = SpecFrom(input["name"].cast<std::string>(), input["spec"]);
    if (spec.name != kSecretsInput) {
      if (spec.streamed) plan.streamed = plan.parameters.size();
      if (!spec.streamed && IsViewed(spec.content)) plan.has_views = true;
      MethodPlan::Parameter parameter{.arrive = Given(input, "arrive"), .left_out = {}};
      if (input.contains("default")) parameter.left_out = input["default"];
      plan.parameters.push_back(std::move(parameter));
      if (input["keyword_only"].cast<bool>()) keywords.append(input["name"]);
    }
    plan.method.signature.inputs.push_back(std::move(spec));
  }
  if (!keywords.empty()) plan.keyword_names = py::tuple(keywords);
  const auto shape = described["output_shape"].cast<std::string>();
  plan.outputs = shape == "tuple"    ? MethodPlan::Outputs::kTuple
                 : shape == "fields" ? MethodPlan::Outputs::kFields
                                     : MethodPlan::Outputs::kSingle;
  for (const py::handle entry : described["outputs"].cast<py::list>()) {
    const auto output = entry.cast<py::dict>();
    plan.leave.push_back(Given(output, "leave"));
    plan.method.signature.outputs.push_back(
        SpecFrom(output["name"].cast<std::string>(), output["spec"]));
    if (plan.method.signature.outputs.back().name == kContextOutput) {
      plan.context = py::module_::import("baton._context").attr("output_context");
    } else {
      plan.output_names.push_back(output["name"]);
    }
  }
  return plan;
}

}  // namespace

std::vector<MethodPlan> PlanMethods(const py::list& described) {
  std::vector<MethodPlan> plans;
  for (const py::handle method : described) plans.push_back(PlanOf(method.cast<py::dict>()));
  return plans;
}

absl::Status Convert(const std::string& name, const py::object& conversion, py::object& value) {
  if (!conversion) return absl::OkStatus();
  auto converted =
      py::reinterpret_steal<py::object>(PyObject_CallOneArg(conversion.ptr(), value.ptr()));
  if (!converted) {
    return absl::InvalidArgumentError(absl::StrCat("'", name, "': ", TakePythonError()));
  }
  value = std::move(converted);
  return absl::OkStatus();
}

absl::Status DecodeParameters(const MethodPlan& plan, std::span<const TensorView> inputs,
                              py::handle owner, std::vector<py::object>& parameters) {
  const std::vector<TensorSpec>& specs = plan.method.signature.inputs;
  parameters.clear();
  parameters.resize(plan.parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (plan.streamed == i) continue;
    const MethodPlan::Parameter& parameter = plan.parameters[i];
    if (inputs[i].dtype == DType::kInvalid) {
      if (!parameter.left_out) {
        return absl::InvalidArgumentError(absl::StrCat("'", specs[i].name, "' is missing"));
      }
      parameters[i] = parameter.left_out;
      continue;
    }
    absl::StatusOr<py::object> decoded = Decode(specs[i], inputs[i], owner);
    if (!decoded.ok()) return decoded.status();
    parameters[i] = *std::move(decoded);
    absl::Status converted = Convert(specs[i].name, parameter.arrive, parameters[i]);
    if (!converted.ok()) return converted;
  }
  return absl::OkStatus();
}

py::object CallMethod(const MethodPlan& plan, const std::vector<py::object>& parameters) {
  // One before the first, for the callee to use: no copy for a bound method.
  std::array<PyObject*, kMaxTensors + 1> arguments{};
  for (size_t i = 0; i < parameters.size(); ++i) arguments[i + 1] = parameters[i].ptr();
  size_t positional = parameters.size();
  if (plan.keyword_names)
    positional -= static_cast<size_t>(PyTuple_GET_SIZE(plan.keyword_names.ptr()));
  return py::reinterpret_steal<py::object>(
      PyObject_Vectorcall(plan.function.ptr(), arguments.data() + 1,
                          positional | PY_VECTORCALL_ARGUMENTS_OFFSET, plan.keyword_names.ptr()));
}

}  // namespace baton::python

#include "runtime/python/results.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "loader/python/value_codec.h"

namespace baton::python {

namespace py = pybind11;

namespace {

// What a response's block has at least, where sizes are not known before.
constexpr uint64_t kCopiedBytes = 64 << 10;

// Looked up once and kept for as long as the interpreter lives.
py::handle PackageName(const char* module, const char* name) {
  return py::object(py::module_::import(module).attr(name)).release();
}

py::handle NamedFields() {
  static const py::handle type = PackageName("baton.data_types", "NamedFields");
  return type;
}

py::handle ResultType() {
  static const py::handle type = PackageName("baton._results", "Result");
  return type;
}

py::handle TensorsType() {
  static const py::handle type = PackageName("baton._results", "Tensors");
  return type;
}

absl::StatusOr<py::object> ToValue(const MethodInfo& info, std::span<const TensorView> outputs,
                                   py::handle owner) {
  const std::vector<TensorSpec>& all = info.method.signature.outputs;
  const std::span<const TensorSpec> specs = std::span(all).first(info.values);
  if (info.results == ResultShape::kNothing || outputs.size() != all.size()) {
    return py::object(py::none());
  }
  if (info.results == ResultShape::kValue) return Decode(specs[0], outputs[0], owner);
  py::tuple values(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    absl::StatusOr<py::object> value = Decode(specs[i], outputs[i], owner);
    if (!value.ok()) return value.status();
    values[i] = *std::move(value);
  }
  if (info.results == ResultShape::kTuple) return py::object(std::move(values));
  py::dict named;
  for (size_t i = 0; i < specs.size(); ++i) named[info.output_names[i]] = values[i];
  return NamedFields()(**named);
}

// What the model told of its answer: a dict.
absl::StatusOr<py::object> ToContext(const MethodInfo& info, std::span<const TensorView> outputs) {
  if (!info.context_output || outputs.size() <= *info.context_output) return py::object(py::dict());
  const TensorSpec& spec = info.method.signature.outputs[*info.context_output];
  absl::StatusOr<py::object> context =
      Decode(spec, outputs[*info.context_output], /*owner=*/py::none());
  if (context.ok() && !py::isinstance<py::dict>(*context)) {
    return absl::InvalidArgumentError(absl::StrCat("'", spec.name, "' is no JSON object"));
  }
  return context;
}

absl::StatusOr<py::object> ToTensors(const MethodInfo& info, std::span<const TensorView> outputs,
                                     py::handle owner) {
  py::dict arrays;
  if (info.context_output) outputs = outputs.first(std::min(outputs.size(), info.values));
  for (const TensorView& output : outputs) {
    const TensorSpec as_it_is{
        .name = std::string(output.name), .dtype = DType::kAny, .shape = {kAnyRank}};
    absl::StatusOr<py::object> array = Decode(as_it_is, output, owner);
    if (!array.ok()) return array.status();
    arrays[py::str(as_it_is.name)] = *std::move(array);
  }
  return py::object(std::move(arrays));
}

}  // namespace

absl::StatusOr<py::object> ToResult(const MethodInfo& info, ResultDetail detail,
                                    const std::shared_ptr<SharedChannel>& channel,
                                    Response response, Views views) {
  const uint64_t generation = response.generation();
  const double service_s = absl::ToDoubleSeconds(response.service_time());
  uint64_t bytes = 0;
  for (const TensorView& output : response.outputs()) bytes += output.bytes.size();
  try {
    py::object owner = py::none();
    const Response* from = &response;
    const bool room =
        channel->channel().free_response_bytes() >= channel->options().response_arena_bytes / 2;
    if (views == Views::kLarge &&
        (detail == ResultDetail::kTensors || (bytes > kCopiedBytes && room))) {
      owner = py::cast(std::make_unique<Lease>(channel, std::move(response)));
      from = &owner.cast<const Lease&>().response();
    }
    absl::StatusOr<py::object> value = detail == ResultDetail::kTensors
                                           ? ToTensors(info, from->outputs(), owner)
                                           : ToValue(info, from->outputs(), owner);
    if (!value.ok()) {
      return absl::DataLossError(
          absl::StrCat("the result cannot be read: ", std::string(value.status().message())));
    }
    if (detail == ResultDetail::kValue) return value;
    absl::StatusOr<py::object> context = ToContext(info, from->outputs());
    if (!context.ok()) {
      return absl::DataLossError(
          absl::StrCat("the result cannot be read: ", std::string(context.status().message())));
    }
    const py::handle type = detail == ResultDetail::kFull ? ResultType() : TensorsType();
    return type(*std::move(value), generation, service_s, *std::move(context));
  } catch (py::error_already_set& error) {
    return absl::InternalError(std::string("the result cannot be made: ") + error.what());
  }
}

}  // namespace baton::python

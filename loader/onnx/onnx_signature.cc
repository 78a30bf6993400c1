#include "loader/onnx/onnx_signature.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::loader {
namespace {

constexpr std::pair<ONNXTensorElementDataType, DType> kTypes[] = {
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, DType::kBool},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, DType::kUInt8},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, DType::kInt8},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, DType::kUInt16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, DType::kInt16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, DType::kUInt32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, DType::kInt32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, DType::kUInt64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, DType::kInt64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, DType::kFloat16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, DType::kBFloat16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, DType::kFloat32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, DType::kFloat64},
};

absl::StatusOr<TensorSpec> SpecOf(std::string name, const Ort::TypeInfo& type,
                                  const std::string& file) {
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) {
    return absl::UnimplementedError(absl::StrCat(
        file, ": '", name, "' is not a tensor (ONNX type ", static_cast<int>(type.GetONNXType()),
        ": a sequence, map or optional); Baton serves tensors only"));
  }
  const auto info = type.GetTensorTypeAndShapeInfo();
  TensorSpec spec{.name = std::move(name),
                  .dtype = DTypeFromOnnx(info.GetElementType()),
                  .shape = info.GetShape()};
  if (spec.dtype == DType::kInvalid) {
    return absl::UnimplementedError(absl::StrCat(
        file, ": '", spec.name, "' has an element type that Baton does not carry (ONNX type ",
        static_cast<int>(info.GetElementType()), "); cast it inside the model to a number type"));
  }
  if (spec.shape.size() > kMaxRank) {
    return absl::UnimplementedError(absl::StrCat(file, ": '", spec.name, "' has ",
                                                 spec.shape.size(), " dimensions; Baton carries ",
                                                 kMaxRank));
  }
  if (spec.name.size() > kMaxNameBytes) {
    return absl::UnimplementedError(
        absl::StrCat(file, ": the name '", spec.name, "' has over ", kMaxNameBytes, " bytes"));
  }
  for (int64_t& dim : spec.shape) {
    if (dim < 0) dim = kDynamicDim;
  }
  return spec;
}

bool ShapesAgree(const TensorSpec& file, const TensorSpec& config) {
  if (file.shape.empty()) return true;  // a scalar, or a rank that the file does not give
  return std::equal(file.shape.begin(), file.shape.end(), config.shape.begin(), config.shape.end(),
                    [](int64_t of_file, int64_t of_config) {
                      return of_file == of_config || of_file == kDynamicDim;
                    });
}

absl::Status AgreeOnTensors(const std::vector<TensorSpec>& file,
                            const std::vector<TensorSpec>& config, const std::string& file_name,
                            const std::string& kind) {
  for (size_t i = 0; i < config.size(); ++i) {
    const TensorSpec& wanted = config[i];
    const auto same_name = [&](const TensorSpec& spec) { return spec.name == wanted.name; };
    const auto found = std::find_if(file.begin(), file.end(), same_name);
    if (found == file.end()) {
      std::string known;
      for (const TensorSpec& spec : file) {
        absl::StrAppend(&known, known.empty() ? "" : ", ", ToString(spec));
      }
      return absl::InvalidArgumentError(absl::StrCat("config.yaml: the signature's ", kind, " '",
                                                     wanted.name, "' is not in ", file_name,
                                                     ", which has ", known));
    }
    if (std::any_of(config.begin(), config.begin() + i, same_name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("config.yaml: the signature has ", kind, " '", wanted.name, "' twice"));
    }
    if (found->dtype != wanted.dtype || !ShapesAgree(*found, wanted)) {
      return absl::InvalidArgumentError(absl::StrCat("config.yaml: the signature has ", kind, " ",
                                                     ToString(wanted), ", but ", file_name, " has ",
                                                     ToString(*found)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

DType DTypeFromOnnx(ONNXTensorElementDataType type) {
  for (const auto& [onnx, dtype] : kTypes) {
    if (onnx == type) return dtype;
  }
  return DType::kInvalid;
}

ONNXTensorElementDataType OnnxFromDType(DType dtype) {
  for (const auto& [onnx, baton] : kTypes) {
    if (baton == dtype) return onnx;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

absl::StatusOr<Signature> SignatureOfSession(const Ort::Session& session, const std::string& file) {
  const Ort::AllocatorWithDefaultOptions allocator;
  Signature signature;
  if (session.GetInputCount() > kMaxTensors || session.GetOutputCount() > kMaxTensors) {
    return absl::UnimplementedError(absl::StrCat(file, ": ", session.GetInputCount(),
                                                 " inputs and ", session.GetOutputCount(),
                                                 " outputs; Baton carries ", kMaxTensors, " each"));
  }
  for (size_t i = 0; i < session.GetInputCount(); ++i) {
    auto spec = SpecOf(session.GetInputNameAllocated(i, allocator).get(),
                       session.GetInputTypeInfo(i), file);
    if (!spec.ok()) return spec.status();
    signature.inputs.push_back(*std::move(spec));
  }
  for (size_t i = 0; i < session.GetOutputCount(); ++i) {
    auto spec = SpecOf(session.GetOutputNameAllocated(i, allocator).get(),
                       session.GetOutputTypeInfo(i), file);
    if (!spec.ok()) return spec.status();
    signature.outputs.push_back(*std::move(spec));
  }
  return signature;
}

absl::StatusOr<Signature> AgreeOnSignature(const Signature& file, const Signature& config,
                                           const std::string& file_name) {
  if (absl::Status inputs = AgreeOnTensors(file.inputs, config.inputs, file_name, "input");
      !inputs.ok()) {
    return inputs;
  }
  if (absl::Status outputs = AgreeOnTensors(file.outputs, config.outputs, file_name, "output");
      !outputs.ok()) {
    return outputs;
  }
  for (const TensorSpec& spec : file.inputs) {
    if (std::none_of(config.inputs.begin(), config.inputs.end(),
                     [&](const TensorSpec& given) { return given.name == spec.name; })) {
      return absl::InvalidArgumentError(absl::StrCat("config.yaml: the signature lacks the input ",
                                                     ToString(spec), " of ", file_name));
    }
  }
  if (config.outputs.empty() && !file.outputs.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("config.yaml: the signature names no output of ", file_name));
  }
  return config;
}

}  // namespace baton::loader

#include "baton/tensor.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

namespace baton {
namespace {

// Indexed by the number of the dtype.
constexpr std::array<std::string_view, kMaxDType + 1> kDTypeNames = {
    "invalid", "bool",   "uint8", "int8",    "uint16",   "int16",   "uint32",
    "int32",   "uint64", "int64", "float16", "bfloat16", "float32", "float64"};

}  // namespace

std::string_view DTypeName(DType dtype) {
  if (dtype == DType::kAny) return "any";
  const auto index = static_cast<size_t>(dtype);
  return index < kDTypeNames.size() ? kDTypeNames[index] : kDTypeNames[0];
}

DType DTypeFromName(std::string_view name) {
  for (size_t i = 1; i < kDTypeNames.size(); ++i) {
    if (kDTypeNames[i] == name) return static_cast<DType>(i);
  }
  return DType::kInvalid;
}

std::string_view ContentName(Content content) {
  constexpr std::array<std::string_view, kMaxContent + 1> kNames = {
      "tensor", "scalar", "text", "bytes", "image", "json", "value", "secret"};
  const auto index = static_cast<size_t>(content);
  return index < kNames.size() ? kNames[index] : "invalid";
}

std::string ToString(const TensorSpec& spec) {
  std::string text = absl::StrCat(spec.name, ": ", std::string(DTypeName(spec.dtype)), "[");
  for (size_t i = 0; i < spec.shape.size(); ++i) {
    if (i > 0) text += ", ";
    if (spec.shape[i] == kAnyRank) {
      text += "...";
    } else if (spec.shape[i] == kDynamicDim) {
      text += "?";
    } else {
      absl::StrAppend(&text, spec.shape[i]);
    }
  }
  text += "]";
  return text;
}

bool Fits(const TensorSpec& spec, DType dtype, std::span<const int64_t> shape) {
  if (spec.dtype != dtype && spec.dtype != DType::kAny) return false;
  if (spec.shape.size() == 1 && spec.shape[0] == kAnyRank) return true;
  if (spec.shape.size() != shape.size()) return false;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (spec.shape[d] != kDynamicDim && spec.shape[d] != shape[d]) return false;
  }
  return true;
}

std::vector<TensorSpec> InputsOf(const Signature& signature, bool streamed) {
  std::vector<TensorSpec> inputs;
  for (const TensorSpec& input : signature.inputs) {
    if (input.streamed == streamed) inputs.push_back(input);
  }
  return inputs;
}

bool SameCalls(std::span<const Method> one, std::span<const Method> other) {
  const auto without_texts = [](Method method) {
    method.doc.clear();
    for (auto* specs : {&method.signature.inputs, &method.signature.outputs}) {
      for (TensorSpec& spec : *specs) {
        spec.type_text.clear();
        spec.default_text.clear();
      }
    }
    return method;
  };
  return std::equal(
      one.begin(), one.end(), other.begin(), other.end(),
      [&](const Method& a, const Method& b) { return without_texts(a) == without_texts(b); });
}

}  // namespace baton

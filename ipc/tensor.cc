#include "baton/tensor.h"

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

}  // namespace baton

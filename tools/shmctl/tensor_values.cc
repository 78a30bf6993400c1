#include "tools/shmctl/tensor_values.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

struct Half {
  uint16_t bits;
};
struct BHalf {
  uint16_t bits;
};

// Calls `use` with the elements' count and a function that reads element i.
template <typename T, typename Use>
void WithElements(const TensorView& tensor, Use&& use) {
  use(tensor.bytes.size() / sizeof(T), [&tensor](uint64_t i) {
    T element;
    std::memcpy(&element, tensor.bytes.data() + i * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, Half>) {
      return Float16ToFloat(element.bits);
    } else if constexpr (std::is_same_v<T, BHalf>) {
      return BFloat16ToFloat(element.bits);
    } else {
      return element;
    }
  });
}

// A byte that is no valid bool (a model can write one) reads as true.
template <typename Use>
void WithFlags(const TensorView& tensor, Use&& use) {
  use(tensor.bytes.size(), [&tensor](uint64_t i) { return tensor.bytes[i] != std::byte{0}; });
}

template <typename Use>
void Visit(const TensorView& tensor, Use&& use) {
  switch (tensor.dtype) {
    case DType::kBool:
      return WithFlags(tensor, use);
    case DType::kUInt8:
      return WithElements<uint8_t>(tensor, use);
    case DType::kInt8:
      return WithElements<int8_t>(tensor, use);
    case DType::kUInt16:
      return WithElements<uint16_t>(tensor, use);
    case DType::kInt16:
      return WithElements<int16_t>(tensor, use);
    case DType::kUInt32:
      return WithElements<uint32_t>(tensor, use);
    case DType::kInt32:
      return WithElements<int32_t>(tensor, use);
    case DType::kUInt64:
      return WithElements<uint64_t>(tensor, use);
    case DType::kInt64:
      return WithElements<int64_t>(tensor, use);
    case DType::kFloat16:
      return WithElements<Half>(tensor, use);
    case DType::kBFloat16:
      return WithElements<BHalf>(tensor, use);
    case DType::kFloat32:
      return WithElements<float>(tensor, use);
    case DType::kFloat64:
      return WithElements<double>(tensor, use);
    case DType::kInvalid:
      return;
  }
}

template <typename T>
void AppendElement(std::string* out, T element) {
  if constexpr (std::is_same_v<T, bool>) {
    absl::StrAppend(out, element ? "true" : "false");
  } else {
    char text[64];
    const auto end = std::to_chars(text, text + sizeof(text), element).ptr;
    out->append(text, end);
  }
}

// Elements from `*at` on, bracketed as the dimensions from `depth` on are.
template <typename Read>
void AppendNested(std::string* out, std::span<const int64_t> shape, uint64_t* at,
                  const Read& read) {
  if (shape.empty()) {
    AppendElement(out, read((*at)++));
    return;
  }
  out->push_back('[');
  for (int64_t i = 0; i < shape[0]; ++i) {
    if (i > 0) absl::StrAppend(out, ", ");
    AppendNested(out, shape.subspan(1), at, read);
  }
  out->push_back(']');
}

}  // namespace

float Float16ToFloat(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  float value;
  if (exponent == 0x1f) {
    value = fraction == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    value = std::ldexp(static_cast<float>(fraction + 0x400), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

float BFloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

std::string FormatTensor(const TensorView& tensor, uint64_t max_values) {
  std::string text = ToString(TensorSpec{
      std::string(tensor.name), tensor.dtype, {tensor.shape.begin(), tensor.shape.end()}});
  Visit(tensor, [&](uint64_t count, const auto& read) {
    if (count != ElementCount(tensor.shape)) return;
    if (count > max_values) {
      absl::StrAppend(&text, " (", count, " values: --output-dir writes them into files)");
      return;
    }
    if (count == 0) {
      absl::StrAppend(&text, " = []");  // whatever the other dimensions are
      return;
    }
    absl::StrAppend(&text, " = ");
    uint64_t at = 0;
    AppendNested(&text, tensor.shape, &at, read);
  });
  return text;
}

void WriteValues(const TensorView& tensor, schema::Values::Builder to) {
  Visit(tensor, [&to](uint64_t count, const auto& read) {
    using T = std::decay_t<decltype(read(0))>;
    const auto size = static_cast<uint32_t>(count);
    const auto fill = [&](auto list) {
      for (uint32_t i = 0; i < size; ++i) list.set(i, read(i));
    };
    if constexpr (std::is_same_v<T, bool>) {
      fill(to.initFlags(size));
    } else if constexpr (std::is_same_v<T, int64_t>) {
      fill(to.initIntegers(size));
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      fill(to.initNaturals(size));
    } else {
      fill(to.initNumbers(size));
    }
  });
}

}  // namespace baton::shmctl

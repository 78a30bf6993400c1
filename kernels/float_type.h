// The floating-point types that kernels convert between. C++17, and nothing but
// <cstdint>: device code reads it too.
#ifndef BATON_KERNELS_FLOAT_TYPE_H_
#define BATON_KERNELS_FLOAT_TYPE_H_

#include <cstdint>

namespace baton::kernels {

// The numbers are part of the arguments of device kernels.
enum class FloatType : uint32_t {
  kFloat32 = 0,
  kFloat16 = 1,   // IEEE binary16
  kBfloat16 = 2,  // the upper half of a float32
};

constexpr uint64_t FloatBytes(FloatType type) { return type == FloatType::kFloat32 ? 4 : 2; }

}  // namespace baton::kernels

#endif  // BATON_KERNELS_FLOAT_TYPE_H_

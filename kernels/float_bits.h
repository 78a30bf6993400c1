// Conversions between float types, on their bits and in integers only: so every
// device gives the same bits, whatever its rounding mode, its flushing of
// subnormals and its NaNs.
//
// Round to nearest, ties to even; too large becomes infinity; subnormals are
// kept. NaN stays NaN, quiet, with its sign and the payload bits that fit.
//
// Thread safety: pure functions. C++17; device code reads it too.
#ifndef BATON_KERNELS_FLOAT_BITS_H_
#define BATON_KERNELS_FLOAT_BITS_H_

#include <cstdint>

#include "kernels/float_type.h"

namespace baton::kernels {

constexpr uint32_t Float16ToFloat32Bits(uint16_t bits) {
  const uint32_t sign = uint32_t{bits} << 16 & 0x80000000u;
  const uint32_t magnitude = bits & 0x7fffu;
  uint32_t fraction = magnitude & 0x3ffu;
  if (magnitude > 0x7c00u) return sign | 0x7fc00000u | fraction << 13;
  if (magnitude == 0x7c00u) return sign | 0x7f800000u;
  // Normal: the exponent's bias grows from 15 to 127.
  if (magnitude >= 0x400u) return sign | ((magnitude << 13) + (112u << 23));
  if (magnitude == 0) return sign;
  // Subnormal, which a float32 holds as a normal number.
  uint32_t exponent = 113;
  while ((fraction & 0x400u) == 0) {
    fraction <<= 1;
    --exponent;
  }
  return sign | exponent << 23 | (fraction & 0x3ffu) << 13;
}

constexpr uint16_t Float32ToFloat16Bits(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  }
  // From 65520 on, half way between the largest float16 and the next power of two.
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude >= 0x38800000u) {  // 2^-14: normal
    const uint32_t rebiased = magnitude - (112u << 23);
    return static_cast<uint16_t>(sign | (rebiased + 0xfffu + (rebiased >> 13 & 1u)) >> 13);
  }
  if (magnitude < 0x33000000u) return static_cast<uint16_t>(sign);  // less than half of 2^-24
  // Subnormal: a multiple of 2^-24. Rounding up into the normal numbers gives the right bits.
  const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
  const uint32_t shift = 126 - (magnitude >> 23);
  const uint32_t rest = significand & ((1u << shift) - 1);
  const uint32_t half = 1u << (shift - 1);
  uint32_t units = significand >> shift;
  if (rest > half || (rest == half && (units & 1u) != 0)) ++units;
  return static_cast<uint16_t>(sign | units);
}

constexpr uint32_t Bfloat16ToFloat32Bits(uint16_t bits) {
  const uint32_t widened = uint32_t{bits} << 16;
  return (bits & 0x7fffu) > 0x7f80u ? widened | 0x00400000u : widened;
}

constexpr uint16_t Float32ToBfloat16Bits(uint32_t bits) {
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// The unsigned integer that holds the bits of a FloatType.
template <FloatType kType>
struct FloatStorage {
  using Bits = uint16_t;
};
template <>
struct FloatStorage<FloatType::kFloat32> {
  using Bits = uint32_t;
};
template <FloatType kType>
using FloatBits = typename FloatStorage<kType>::Bits;

// Between any two of the types. Equal types keep all bits. Two 16-bit types go
// through float32, which holds each exactly: there is one rounding.
template <FloatType kFrom, FloatType kTo>
constexpr FloatBits<kTo> ConvertFloatBits(FloatBits<kFrom> bits) {
  if constexpr (kFrom == kTo) {
    return bits;
  } else if constexpr (kFrom == FloatType::kFloat16) {
    return ConvertFloatBits<FloatType::kFloat32, kTo>(Float16ToFloat32Bits(bits));
  } else if constexpr (kFrom == FloatType::kBfloat16) {
    return ConvertFloatBits<FloatType::kFloat32, kTo>(Bfloat16ToFloat32Bits(bits));
  } else if constexpr (kTo == FloatType::kFloat16) {
    return Float32ToFloat16Bits(bits);
  } else {
    return Float32ToBfloat16Bits(bits);
  }
}

}  // namespace baton::kernels

#endif  // BATON_KERNELS_FLOAT_BITS_H_

// Conversion of arrays between float32, float16 and bfloat16. The CPU
// reference; the rounding is that of float_bits.h, which every device shares.
//
// Thread safety: pure; touches only what it is given, and allocates nothing.
#ifndef BATON_KERNELS_CAST_H_
#define BATON_KERNELS_CAST_H_

#include <cstddef>

#include "kernels/float_type.h"

namespace baton::kernels {

struct CastArgs {
  const void* input = nullptr;  // `count` elements, aligned to one
  void* output = nullptr;       // likewise; must not overlap the input
  size_t count = 0;
  FloatType input_type = FloatType::kFloat32;
  FloatType output_type = FloatType::kFloat32;
};

// Equal types are copied bit by bit. Cost: one pass over both arrays.
void Cast(const CastArgs& args);

}  // namespace baton::kernels

#endif  // BATON_KERNELS_CAST_H_

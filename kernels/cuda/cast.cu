// baton_cast. Reference: kernels/cast.h; the arithmetic is kernels/float_bits.h.
#include "kernels/cuda/kernel_args.h"
#include "kernels/cuda/thread_index.cuh"
#include "kernels/float_bits.h"

namespace baton::kernels::cuda {

// Four elements that are loaded or stored at once.
template <FloatType kType>
struct alignas(4 * sizeof(FloatBits<kType>)) FourFloats {
  FloatBits<kType> at[4];
};

template <FloatType kFrom, FloatType kTo>
__device__ void CastBetween(const CastArgs& args) {
  const auto* const from = reinterpret_cast<const FloatBits<kFrom>*>(args.input);
  auto* const to = reinterpret_cast<FloatBits<kTo>*>(args.output);
  uint64_t done = 0;
  if (args.input % sizeof(FourFloats<kFrom>) == 0 && args.output % sizeof(FourFloats<kTo>) == 0) {
    done = args.count / 4 * 4;
    for (uint64_t i = GridThread(); i < done / 4; i += GridThreads()) {
      const FourFloats<kFrom> in = reinterpret_cast<const FourFloats<kFrom>*>(from)[i];
      FourFloats<kTo> out;
#pragma unroll
      for (int k = 0; k < 4; ++k) out.at[k] = ConvertFloatBits<kFrom, kTo>(in.at[k]);
      reinterpret_cast<FourFloats<kTo>*>(to)[i] = out;
    }
  }
  for (uint64_t i = done + GridThread(); i < args.count; i += GridThreads()) {
    to[i] = ConvertFloatBits<kFrom, kTo>(from[i]);
  }
}

template <FloatType kFrom>
__device__ void CastFrom(const CastArgs& args) {
  switch (args.output_type) {
    case FloatType::kFloat32:
      return CastBetween<kFrom, FloatType::kFloat32>(args);
    case FloatType::kFloat16:
      return CastBetween<kFrom, FloatType::kFloat16>(args);
    case FloatType::kBfloat16:
      return CastBetween<kFrom, FloatType::kBfloat16>(args);
  }
}

}  // namespace baton::kernels::cuda

extern "C" __global__ void __launch_bounds__(baton::kernels::cuda::kBlockThreads)
    baton_cast(const __grid_constant__ baton::kernels::cuda::CastArgs args) {
  using baton::kernels::FloatType;
  switch (args.input_type) {
    case FloatType::kFloat32:
      return baton::kernels::cuda::CastFrom<FloatType::kFloat32>(args);
    case FloatType::kFloat16:
      return baton::kernels::cuda::CastFrom<FloatType::kFloat16>(args);
    case FloatType::kBfloat16:
      return baton::kernels::cuda::CastFrom<FloatType::kBfloat16>(args);
  }
}

// baton_pack, baton_unpack. Reference: kernels/pack.h.
//
// blockIdx.y is the row block; the threads along x stride over its bytes.
#include "kernels/cuda/kernel_args.h"
#include "kernels/cuda/thread_index.cuh"

namespace baton::kernels::cuda {

template <class Unit>
__device__ void CopyUnits(uint64_t to, uint64_t from, uint64_t count) {
  auto* const out = reinterpret_cast<Unit*>(to);
  const auto* const in = reinterpret_cast<const Unit*>(from);
  for (uint64_t i = GridThread(); i < count; i += GridThreads()) out[i] = in[i];
}

// In the largest units that both addresses are aligned to, and the rest in
// bytes. Rows of odd sizes leave most blocks of a batch aligned to nothing.
__device__ inline void CopyBytes(uint64_t to, uint64_t from, uint64_t bytes) {
  const uint64_t alignment = to | from;
  uint64_t copied = 0;
  if (alignment % sizeof(uint4) == 0) {
    copied = bytes / sizeof(uint4) * sizeof(uint4);
    CopyUnits<uint4>(to, from, copied / sizeof(uint4));
  } else if (alignment % sizeof(uint32_t) == 0) {
    copied = bytes / sizeof(uint32_t) * sizeof(uint32_t);
    CopyUnits<uint32_t>(to, from, copied / sizeof(uint32_t));
  }
  CopyUnits<uint8_t>(to + copied, from + copied, bytes - copied);
}

}  // namespace baton::kernels::cuda

extern "C" __global__ void __launch_bounds__(baton::kernels::cuda::kBlockThreads)
    baton_pack(const __grid_constant__ baton::kernels::cuda::RowBlocksArgs args) {
  const auto& block = args.blocks[blockIdx.y];
  baton::kernels::cuda::CopyBytes(args.batch + block.first_row * args.row_bytes, block.address,
                                  block.rows * args.row_bytes);
}

extern "C" __global__ void __launch_bounds__(baton::kernels::cuda::kBlockThreads)
    baton_unpack(const __grid_constant__ baton::kernels::cuda::RowBlocksArgs args) {
  const auto& block = args.blocks[blockIdx.y];
  baton::kernels::cuda::CopyBytes(block.address, args.batch + block.first_row * args.row_bytes,
                                  block.rows * args.row_bytes);
}

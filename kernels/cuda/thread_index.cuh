// Which part of the work is a thread's, where the threads of a grid stride over
// it along x.
#ifndef BATON_KERNELS_CUDA_THREAD_INDEX_CUH_
#define BATON_KERNELS_CUDA_THREAD_INDEX_CUH_

#include <cstdint>

namespace baton::kernels::cuda {

// 64 bits: an arena has more bytes than 32 bits count.
__device__ inline uint64_t GridThread() {
  return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline uint64_t GridThreads() { return static_cast<uint64_t>(gridDim.x) * blockDim.x; }

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_THREAD_INDEX_CUH_

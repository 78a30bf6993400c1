// baton_digest. Reference: kernels/digest.h.
#include "kernels/cuda/kernel_args.h"
#include "kernels/cuda/thread_index.cuh"
#include "kernels/digest_mix.h"

namespace baton::kernels::cuda {

// The first `bytes` (up to 8) of a word that need not be aligned; the rest zero.
__device__ inline uint64_t LoadBytes(uint64_t address, unsigned bytes) {
  const auto* const from = reinterpret_cast<const uint8_t*>(address);
  uint64_t word = 0;
  for (unsigned i = 0; i < bytes; ++i) word |= static_cast<uint64_t>(from[i]) << (8 * i);
  return word;
}

// What this thread's words add.
__device__ inline uint64_t ThreadDigest(const DigestArgs& args) {
  const uint64_t words = args.bytes / kDigestWordBytes;
  uint64_t sum = 0;
  if (args.input % kDigestWordBytes == 0) {
    const auto* const from = reinterpret_cast<const uint64_t*>(args.input);
    for (uint64_t i = GridThread(); i < words; i += GridThreads()) sum += DigestMix(from[i], i);
  } else {
    for (uint64_t i = GridThread(); i < words; i += GridThreads()) {
      sum += DigestMix(LoadBytes(args.input + i * kDigestWordBytes, kDigestWordBytes), i);
    }
  }
  if (GridThread() == 0) {
    const auto tail = static_cast<unsigned>(args.bytes % kDigestWordBytes);
    if (tail != 0) {
      sum += DigestMix(LoadBytes(args.input + words * kDigestWordBytes, tail), words);
    }
    sum += DigestEnd(args.bytes);
  }
  return sum;
}

}  // namespace baton::kernels::cuda

extern "C" __global__ void __launch_bounds__(baton::kernels::cuda::kBlockThreads)
    baton_digest(const __grid_constant__ baton::kernels::cuda::DigestArgs args) {
  __shared__ uint64_t sums[baton::kernels::cuda::kBlockThreads];
  sums[threadIdx.x] = baton::kernels::cuda::ThreadDigest(args);
  __syncthreads();
  for (unsigned half = baton::kernels::cuda::kBlockThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(args.result),
              static_cast<unsigned long long>(sums[0]));
  }
}

// CUDA's language on the CPU, as far as Baton's kernels use it: the threads of a
// block are threads of the process, one block at a time, and a barrier is a
// barrier. So a kernel's own source runs where there is no GPU, and under the
// sanitizers: an index that is out of range, and a barrier that is missing, are
// found.
//
// Included once, before the kernels' source.
#ifndef BATON_TESTS_KERNELS_CUDA_ON_CPU_H_
#define BATON_TESTS_KERNELS_CUDA_ON_CPU_H_

#include <math.h>
#include <pthread.h>

#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/cuda/grid.h"

namespace cuda_on_cpu {

struct Index {
  unsigned x = 0;
  unsigned y = 0;
  unsigned z = 0;
};

inline pthread_barrier_t block_barrier;

}  // namespace cuda_on_cpu

inline thread_local cuda_on_cpu::Index threadIdx;
inline thread_local cuda_on_cpu::Index blockIdx;
inline thread_local cuda_on_cpu::Index blockDim;
inline thread_local cuda_on_cpu::Index gridDim;

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline void __syncthreads() { ::pthread_barrier_wait(&cuda_on_cpu::block_barrier); }

inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long value) {
  return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(threads)
#define __shared__ static  // there is one block at a time

namespace cuda_on_cpu {

template <class Args>
void Run(void (*kernel)(Args), const Args& args, const baton::kernels::cuda::Grid& grid) {
  ::pthread_barrier_init(&block_barrier, nullptr, grid.block_x);
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < grid.block_x; ++thread) {
    threads.emplace_back([&, thread] {
      threadIdx = {.x = thread};
      blockDim = {.x = grid.block_x, .y = 1, .z = 1};
      gridDim = {.x = grid.x, .y = grid.y, .z = 1};
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = {.x = x, .y = y};
          kernel(args);
          __syncthreads();  // the next block takes over the shared memory
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ::pthread_barrier_destroy(&block_barrier);
}

}  // namespace cuda_on_cpu

#endif  // BATON_TESTS_KERNELS_CUDA_ON_CPU_H_

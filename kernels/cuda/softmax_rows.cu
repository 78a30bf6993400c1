// baton_softmax_rows. Reference: kernels/dense.h (SoftmaxRows).
//
// A block computes a row, and the blocks stride over the rows. A thread touches
// only its own columns in global memory, so that only the reductions need
// barriers.
#include "kernels/cuda/kernel_args.h"

namespace baton::kernels::cuda {

// One value of all threads', to all of them. `scratch` may be used again at once.
template <class Combine>
__device__ float ReduceBlock(float value, float (&scratch)[kBlockThreads], Combine combine) {
  scratch[threadIdx.x] = value;
  __syncthreads();
  for (unsigned half = kBlockThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      scratch[threadIdx.x] = combine(scratch[threadIdx.x], scratch[threadIdx.x + half]);
    }
    __syncthreads();
  }
  const float result = scratch[0];
  __syncthreads();
  return result;
}

struct LargerOf {
  // A NaN is passed over here: it comes back through its own exponential.
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct SumOf {
  __device__ float operator()(float a, float b) const { return a + b; }
};

__device__ inline void SoftmaxRow(float* row, uint64_t columns, float (&scratch)[kBlockThreads]) {
  // Threads without a column repeat the first, which changes no maximum.
  float largest = row[threadIdx.x < columns ? threadIdx.x : 0];
  for (uint64_t i = threadIdx.x; i < columns; i += kBlockThreads) {
    largest = fmaxf(largest, row[i]);
  }
  // After the barriers in here nobody reads the others' columns any more.
  largest = ReduceBlock(largest, scratch, LargerOf());
  float sum = 0.0f;
  for (uint64_t i = threadIdx.x; i < columns; i += kBlockThreads) {
    const float power = expf(row[i] - largest);
    row[i] = power;
    sum += power;
  }
  sum = ReduceBlock(sum, scratch, SumOf());
  for (uint64_t i = threadIdx.x; i < columns; i += kBlockThreads) row[i] /= sum;
}

}  // namespace baton::kernels::cuda

extern "C" __global__ void __launch_bounds__(baton::kernels::cuda::kBlockThreads)
    baton_softmax_rows(const __grid_constant__ baton::kernels::cuda::SoftmaxRowsArgs args) {
  using namespace baton::kernels::cuda;
  __shared__ float scratch[kBlockThreads];
  for (uint64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    SoftmaxRow(reinterpret_cast<float*>(args.values) + row * args.columns, args.columns, scratch);
  }
}

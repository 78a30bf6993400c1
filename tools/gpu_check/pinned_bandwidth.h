// What the bus carries: one copy at a time from pinned memory to the device.
#ifndef BATON_TOOLS_GPU_CHECK_PINNED_BANDWIDTH_H_
#define BATON_TOOLS_GPU_CHECK_PINNED_BANDWIDTH_H_

#include <cstdint>

#include "absl/status/statusor.h"

#include "ipc/cuda/driver.h"

namespace baton::gpu_check {

// The best of a few copies of `bytes`, bytes a nanosecond (GB/s, 10^9 bytes).
// Takes so much of the host's and of the device's memory meanwhile. The calling
// thread has a context current.
absl::StatusOr<double> PinnedBandwidth(const ipc::cuda::Driver& driver, uint64_t bytes);

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_PINNED_BANDWIDTH_H_

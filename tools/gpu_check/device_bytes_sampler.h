// The most device memory in use at one time, looked at from outside: a thread
// that asks NVML every two milliseconds while it lives. What comes and goes
// between two looks is not seen.
//
// Thread safety: any thread. The destructor waits for a call of NVML that is
// under way.
#ifndef BATON_TOOLS_GPU_CHECK_DEVICE_BYTES_SAMPLER_H_
#define BATON_TOOLS_GPU_CHECK_DEVICE_BYTES_SAMPLER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "tools/gpu_check/gpu_view.h"

namespace baton::gpu_check {

class DeviceBytesSampler {
 public:
  explicit DeviceBytesSampler(const GpuView& gpu,
                              std::chrono::microseconds interval = std::chrono::milliseconds(2));
  ~DeviceBytesSampler();
  DeviceBytesSampler(const DeviceBytesSampler&) = delete;
  DeviceBytesSampler& operator=(const DeviceBytesSampler&) = delete;

  // In use by everybody, contexts and other tenants included: compare with
  // what was in use before.
  uint64_t peak_used_bytes() const { return peak_.load(); }
  uint64_t samples() const { return samples_.load(); }
  // Looks that NVML did not answer: with some, the peak is a lower bound.
  uint64_t failures() const { return failures_.load(); }
  // From one look to the next, at most: NVML may take longer than the interval.
  double longest_gap_ns() const { return longest_gap_ns_.load(); }

 private:
  void Run();

  const GpuView gpu_;
  const std::chrono::microseconds interval_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> peak_{0};
  std::atomic<uint64_t> samples_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<double> longest_gap_ns_{0};
  std::thread thread_;
};

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_DEVICE_BYTES_SAMPLER_H_

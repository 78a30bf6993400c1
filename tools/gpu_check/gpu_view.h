// A GPU as seen from outside, through NVML: no context, no device memory.
//
// Thread safety: any thread. Every call may hang as NVML may; a measurement
// runs in a process that is killed when its time is up.
#ifndef BATON_TOOLS_GPU_CHECK_GPU_VIEW_H_
#define BATON_TOOLS_GPU_CHECK_GPU_VIEW_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ipc/cuda/driver.h"
#include "ipc/cuda/nvml.h"

namespace baton::gpu_check {

class GpuView {
 public:
  // The device with this ordinal as CUDA counts.
  static absl::StatusOr<GpuView> Open(unsigned ordinal);

  const ipc::cuda::Driver& driver() const { return *driver_; }
  const ipc::cuda::Nvml& nvml() const { return *nvml_; }
  ipc::cuda::DeviceOrdinal device() const { return device_; }
  ipc::cuda::NvmlDevice nvml_device() const { return nvml_device_; }
  const std::string& name() const { return name_; }

  absl::StatusOr<uint64_t> FreeBytes() const;
  // nullopt: NVML lists no such process, or not what it uses.
  absl::StatusOr<std::optional<uint64_t>> UsedBytesOf(pid_t pid) const;
  absl::StatusOr<bool> Lists(pid_t pid) const;

  // Waits until FreeBytes has stayed the same for a tenth of a second: nothing
  // is being torn down or set up. DEADLINE_EXCEEDED after `timeout`.
  absl::StatusOr<uint64_t> SettledFreeBytes(absl::Duration timeout = absl::Seconds(20)) const;
  // Waits until at least so much is free; the nanoseconds that took.
  // DEADLINE_EXCEEDED says how much there was.
  absl::StatusOr<double> AwaitFree(uint64_t bytes, absl::Duration timeout) const;

 private:
  GpuView(const ipc::cuda::Driver* driver, const ipc::cuda::Nvml* nvml)
      : driver_(driver), nvml_(nvml) {}

  const ipc::cuda::Driver* driver_;
  const ipc::cuda::Nvml* nvml_;
  ipc::cuda::DeviceOrdinal device_ = 0;
  ipc::cuda::NvmlDevice nvml_device_ = nullptr;
  std::string name_;
};

inline double Mebibytes(double bytes) { return bytes / (1 << 20); }
// How much more `after` is than `before`; negative where it is less.
inline double Rise(uint64_t before, uint64_t after) {
  return static_cast<double>(after) - static_cast<double>(before);
}

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_GPU_VIEW_H_

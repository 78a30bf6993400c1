#include "tools/gpu_check/pinned_bandwidth.h"

#include <algorithm>
#include <cstring>

#include "tools/gpu_check/samples.h"

namespace baton::gpu_check {

absl::StatusOr<double> PinnedBandwidth(const ipc::cuda::Driver& driver, uint64_t bytes) {
  ipc::cuda::DevicePtr to = 0;
  absl::Status status = driver.ToStatus(driver->MemAlloc(&to, bytes), "cuMemAlloc");
  if (!status.ok()) return status;
  void* pinned = nullptr;
  status = driver.ToStatus(driver->MemHostAlloc(&pinned, bytes, 0), "cuMemHostAlloc");
  double best = 0;
  if (status.ok()) {
    std::memset(pinned, 1, bytes);
    for (int i = 0; i < 4 && status.ok(); ++i) {
      const Stopwatch watch;
      status = driver.ToStatus(driver->MemcpyHtoD(to, pinned, bytes), "cuMemcpyHtoD");
      best = std::max(best, static_cast<double>(bytes) / watch.Nanoseconds());
    }
    status.Update(driver.ToStatus(driver->MemFreeHost(pinned), "cuMemFreeHost"));
  }
  status.Update(driver.ToStatus(driver->MemFree(to), "cuMemFree"));
  if (!status.ok()) return status;
  return best;
}

}  // namespace baton::gpu_check

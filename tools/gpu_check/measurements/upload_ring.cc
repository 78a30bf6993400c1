// How fast host bytes get to the device through the ring of pinned slots that
// workers upload weights by, against one copy from pinned memory.
#include "ipc/cuda/upload_ring.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/cuda_context.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/pinned_bandwidth.h"
#include "tools/gpu_check/samples.h"

namespace baton::gpu_check {
namespace {

namespace cuda = ipc::cuda;

absl::StatusOr<double> RingBandwidth(cuda::UploadRing& ring, cuda::DevicePtr to,
                                     std::span<const std::byte> from) {
  double best = 0;
  for (int i = 0; i < 4; ++i) {
    const Stopwatch watch;
    const absl::Status status =
        ring.Upload(to, from.size(), [from](uint64_t offset, std::span<std::byte> slot) {
          std::memcpy(slot.data(), from.data() + offset, slot.size());
          return absl::OkStatus();
        });
    if (!status.ok()) return status;
    if (i > 0) best = std::max(best, static_cast<double>(from.size()) / watch.Nanoseconds());
  }
  return best;
}

// Every figure of one ring; the best bandwidth, 0 if it failed.
double MeasureRing(const std::shared_ptr<const cuda::CudaContext>& context, unsigned threads,
                   cuda::DevicePtr to, std::span<const std::byte> from, Report& report) {
  const std::string name = absl::StrCat(
      "upload: ring", threads == 0 ? std::string() : absl::StrCat(" with threads: ", threads));
  const Stopwatch watch;
  const auto ring = cuda::UploadRing::Create(context, {.threads = threads});
  if (!ring.ok()) return report.Error(name, ring.status()), 0;
  report.Measured(name + ", to make it", watch.Nanoseconds() / 1e6, "ms",
                  absl::StrCat((*ring)->pinned_bytes() >> 20, " MiB pinned"));
  const absl::StatusOr<double> bandwidth = RingBandwidth(**ring, to, from);
  if (!bandwidth.ok()) return report.Error(name, bandwidth.status()), 0;
  report.Measured(name, *bandwidth, "GB/s",
                  absl::StrCat(from.size() >> 20, " MiB from memory, best of 3"));
  return *bandwidth;
}

}  // namespace

absl::Status MeasureUploadRing(const Settings& settings, Report& report) {
  const absl::StatusOr<cuda::GpuInfo> gpu = cuda::DescribeGpu(settings.device);
  if (!gpu.ok()) return gpu.status();
  const auto context = cuda::CudaContext::Open(*gpu);
  if (!context.ok()) return context.status();
  const cuda::Driver& driver = (*context)->driver();
  const uint64_t bytes = settings.Bytes(uint64_t{4} << 30);
  cuda::DevicePtr to = 0;
  absl::Status status = driver.ToStatus(driver->MemAlloc(&to, bytes), "cuMemAlloc");
  if (!status.ok()) return status;
  const std::vector<std::byte> from(bytes, std::byte{0x35});
  const absl::StatusOr<double> pinned =
      PinnedBandwidth(driver, std::min<uint64_t>(bytes, uint64_t{256} << 20));
  double best = 0;
  for (const unsigned threads : {0u, 1u, 2u, 4u}) {
    const double bandwidth = MeasureRing(*context, threads, to, from, report);
    if (threads == 0) best = bandwidth;
  }
  if (pinned.ok() && best > 0) {
    report.Against("upload: ring / pinned", best / *pinned, "", {.bound = 0.8, .at_most = false},
                   "pinned: one copy from memory that is pinned already");
  }
  status.Update(pinned.status());
  status.Update(driver.ToStatus(driver->MemFree(to), "cuMemFree"));
  return status;
}

}  // namespace baton::gpu_check

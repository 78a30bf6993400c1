// Whether DeviceBytesSampler sees memory that comes and goes, and how often it
// looks: what figures of peaks rest on.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tools/gpu_check/device_bytes_sampler.h"
#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {
namespace {

constexpr uint64_t kLooks = 10;
constexpr absl::Duration kLimit = absl::Seconds(10);

// Until it has looked so often from now on.
absl::Status AwaitLooks(const DeviceBytesSampler& sampler) {
  const uint64_t wanted = sampler.samples() + kLooks;
  const absl::Time deadline = absl::Now() + kLimit;
  while (sampler.samples() < wanted) {
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("fewer than ", kLooks, " looks in ",
                                                      absl::FormatDuration(kLimit), ", ",
                                                      sampler.failures(), " failed"));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureSampler(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  const uint64_t bytes = settings.Bytes(uint64_t{1} << 30);
  Peer peer = Peer::StartWithContext(settings.device);
  absl::Status status = peer.status();
  const uint64_t free = Take(status, gpu->SettledFreeBytes());
  const ipc::cuda::Nvml::Memory memory = Take(status, gpu->nvml().MemoryOf(gpu->nvml_device()));
  if (!status.ok()) return status;

  const Stopwatch watch;
  const DeviceBytesSampler sampler(*gpu);
  status = AwaitLooks(sampler);
  const uint64_t peak_before = sampler.peak_used_bytes();
  const PeerReply made = peer.Do({.verb = Verb::kAllocate, .bytes = bytes});
  status.Update(AwaitLooks(sampler));
  peer.Do({.verb = Verb::kFree, .address = made.values[0]});
  status.Update(peer.status());
  if (!status.ok()) return status;
  const double seconds = watch.Nanoseconds() / 1e9;
  report.Fact("an allocation of another process shows in NVML's free",
              Rise(peak_before, sampler.peak_used_bytes()) >= 0.75 * static_cast<double>(bytes),
              absl::StrCat("the peak rose by ", (sampler.peak_used_bytes() - peak_before) >> 20,
                           " MiB, allocated: ", bytes >> 20, " MiB"));
  report.Measured("sampler: before, less what NVML says at rest",
                  Mebibytes(Rise(memory.total_bytes - free, peak_before)), "MiB");
  report.Measured("sampler: looks a second", static_cast<double>(sampler.samples()) / seconds,
                  "/s");
  report.Measured("sampler: longest between two looks", sampler.longest_gap_ns() / 1e6, "ms",
                  "what comes and goes within it may not be seen");
  return status;
}

}  // namespace baton::gpu_check

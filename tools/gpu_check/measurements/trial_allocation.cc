// What it costs to try whether memory is free, in a process that has nothing
// yet: the last word where NVML's list cannot be trusted.
#include <string>

#include "absl/strings/str_cat.h"

#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {
namespace {

struct Costs {
  Samples whole, load, context, allocate, free, release;
};

absl::Status Once(const Settings& settings, uint64_t bytes, Costs& costs) {
  const Stopwatch watch;
  Peer peer = Peer::Start(settings.device);
  const PeerReply opened = peer.Do({.verb = Verb::kOpenContext});
  const PeerReply made = peer.Do({.verb = Verb::kAllocate, .bytes = bytes});
  const PeerReply freed = peer.Do({.verb = Verb::kFree, .address = made.values[0]});
  const PeerReply closed = peer.Do({.verb = Verb::kCloseContext});
  if (!peer.status().ok()) return peer.status();
  costs.whole.Add(watch.Nanoseconds());
  costs.load.Add(static_cast<double>(opened.values[0]));
  costs.context.Add(static_cast<double>(opened.values[1]));
  costs.allocate.Add(static_cast<double>(made.values[1]));
  costs.free.Add(static_cast<double>(freed.values[0]));
  costs.release.Add(static_cast<double>(closed.values[0]));
  return absl::OkStatus();
}

absl::Status OfSize(const Settings& settings, uint64_t bytes, const std::string& what,
                    Report& report) {
  Costs costs;
  absl::Status status;
  for (uint32_t i = 0; i < (settings.small ? 2u : 5u) && status.ok(); ++i) {
    status = Once(settings, bytes, costs);
  }
  if (!status.ok()) return status;
  const std::string size = absl::StrCat(what, " (", bytes >> 20, " MiB)");
  report.Times("trial allocation of " + size, costs.whole, "ms",
               "a new process, driver and context included");
  report.Times("trial allocation, driver alone, of " + size, costs.load, "ms");
  report.Times("trial allocation, context alone, of " + size, costs.context, "ms");
  report.Times("trial allocation, cuMemAlloc alone, of " + size, costs.allocate, "ms");
  report.Times("trial allocation, cuMemFree alone, of " + size, costs.free, "ms");
  report.Times("trial allocation, release alone, of " + size, costs.release, "ms");
  return status;
}

// Memory that is not there is refused, and at once.
void TooMuch(const Settings& settings, uint64_t bytes, Report& report) {
  Peer peer = Peer::StartWithContext(settings.device);
  const Stopwatch watch;
  const PeerReply refused = peer.Ask({.verb = Verb::kAllocate, .bytes = bytes});
  if (!peer.status().ok()) return report.Error("trial allocation of too much", peer.status());
  report.Fact("an allocation of more than is free is refused as out of memory",
              !refused.ok() && refused.result == ipc::cuda::kOutOfMemory,
              refused.ok() ? "it succeeded" : refused.text);
  report.Measured("trial allocation of too much: refused after", watch.Nanoseconds() / 1e6, "ms");
}

}  // namespace

absl::Status MeasureTrialAllocation(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  absl::Status status;
  const uint64_t free = Take(status, gpu->SettledFreeBytes());
  if (!status.ok()) return status;
  constexpr uint64_t kGranule = uint64_t{2} << 20;
  status = OfSize(settings, settings.Bytes(uint64_t{1} << 30), "a little", report);
  if (status.ok() && !settings.small) {
    status =
        OfSize(settings, free / 100 * 80 / kGranule * kGranule, "most of what is free", report);
  }
  TooMuch(settings, (free + kGranule) / kGranule * kGranule, report);
  return status;
}

}  // namespace baton::gpu_check

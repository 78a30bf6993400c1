// What a context costs: device memory, time, and the time until it is back.
#include <algorithm>

#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {
namespace {

constexpr absl::Duration kTeardownLimit = absl::Seconds(30);

struct Costs {
  Samples load, open, release, exit_to_free;
  double mebibytes = 0;
};

absl::Status OneContext(const Settings& settings, const GpuView& gpu, Costs& costs) {
  absl::Status status;
  const uint64_t before = Take(status, gpu.SettledFreeBytes());
  Peer peer = Peer::Start(settings.device);
  const PeerReply opened = peer.Do({.verb = Verb::kOpenContext});
  status.Update(peer.status());
  const uint64_t during = Take(status, gpu.SettledFreeBytes());
  if (!status.ok()) return status;
  costs.load.Add(static_cast<double>(opened.values[0]));
  costs.open.Add(static_cast<double>(opened.values[1]));
  costs.mebibytes = std::max(costs.mebibytes, Mebibytes(Rise(during, before)));
  const PeerReply closed = peer.Do({.verb = Verb::kCloseContext});
  status.Update(peer.status());
  if (status.ok()) costs.release.Add(static_cast<double>(closed.values[0]));

  // And one that is killed while it has one.
  Peer killed = Peer::StartWithContext(settings.device);
  status.Update(killed.status());
  peer.Kill();
  const uint64_t held = Take(status, gpu.SettledFreeBytes());
  if (!status.ok()) return status;
  const Stopwatch watch;
  killed.Kill();
  // Half of it back: what the driver keeps for itself does not matter.
  status.Update(
      gpu.AwaitFree(held + (before - std::min(before, held)) / 2, kTeardownLimit).status());
  if (status.ok()) costs.exit_to_free.Add(watch.Nanoseconds());
  return status;
}

}  // namespace

absl::Status MeasureContext(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  Costs costs;
  // The first context after a while sets up what stays; it is not counted.
  absl::Status status = OneContext(settings, *gpu, costs);
  costs = Costs();
  for (uint32_t i = 0; i < (settings.small ? 1u : 3u) && status.ok(); ++i) {
    status = OneContext(settings, *gpu, costs);
  }
  if (!status.ok() && costs.open.count() == 0) return status;
  report.Measured("context: device memory", costs.mebibytes, "MiB",
                  "driver API alone, nothing loaded; NVML's free before and during");
  report.Times("context: load and initialise the driver", costs.load, "ms");
  report.Times("context: open", costs.open, "ms");
  report.Times("context: release", costs.release, "ms");
  report.Times("context: from SIGKILL to memory back", costs.exit_to_free, "ms");
  return status;
}

}  // namespace baton::gpu_check

// Whether NVML shows processes of this pid namespace, and what its calls cost.
#include <string>

#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {

absl::Status MeasureNvml(const Settings& settings, Report& report) {
  const Stopwatch first;
  const absl::StatusOr<const ipc::cuda::Nvml*> nvml = ipc::cuda::Nvml::Get();
  if (!nvml.ok()) return nvml.status();
  report.Measured("NVML: load and initialise", first.Nanoseconds() / 1e6, "ms");
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  Peer peer = Peer::StartWithContext(settings.device);
  absl::Status status = peer.status();
  if (!status.ok()) return status;

  const bool visible = Take(status, gpu->Lists(peer.pid()));
  report.Told("NVML: pid namespace self-test",
              visible
                  ? "a process of ours with a context is in the list: its absence proves that it "
                    "has gone"
                  : "a process of ours with a context is NOT in the list: absence proves nothing "
                    "here, the word is free memory and a trial allocation");
  if (visible) {
    const std::optional<uint64_t> used = Take(status, gpu->UsedBytesOf(peer.pid()));
    if (used) {
      report.Measured("NVML: a bare context's used bytes", Mebibytes(static_cast<double>(*used)),
                      "MiB");
    } else {
      report.Told("NVML: a bare context's used bytes", "NVML does not say what a process uses");
    }
  }
  const ipc::cuda::Nvml::Memory memory = Take(status, gpu->nvml().MemoryOf(gpu->nvml_device()));
  const PeerReply info = peer.Do({.verb = Verb::kMemoryInfo});
  if (peer.status().ok() && status.ok()) {
    report.Measured("NVML: free, less cuMemGetInfo's free",
                    Mebibytes(Rise(info.values[0], memory.free_bytes)), "MiB");
  }
  Samples memory_calls;
  Samples list_calls;
  for (uint32_t i = 0; i < settings.Times(200) && status.ok(); ++i) {
    const Stopwatch ask;
    Take(status, gpu->FreeBytes());
    memory_calls.Add(ask.Nanoseconds());
    const Stopwatch list;
    Take(status, gpu->Lists(peer.pid()));
    list_calls.Add(list.Nanoseconds());
  }
  report.Times("NVML: memory info", memory_calls, "us");
  report.Times("NVML: process list", list_calls, "us");
  status.Update(peer.status());
  return status;
}

}  // namespace baton::gpu_check

#include "runtime/supervisor/gpu_look.h"

#include <utility>

#include "ipc/process.h"

namespace baton::runtime {
namespace {

using ipc::cuda::GpuEvidence;
using ipc::cuda::GpuImporter;

// Ended, a zombie included: its mappings went with it, or the driver is about to take them down.
bool HasEnded(const ipc::ProcessIdentity& process) {
  const auto watch = ipc::ProcessWatch::Open(process);
  if (!watch.ok()) return absl::IsNotFound(watch.status());
  return !watch->alive();
}

bool PidIsReused(const ipc::ProcessIdentity& process) {
  const auto now = ipc::ProcessIdentity::Of(process.pid);
  return now.ok() && *now != process;
}

GpuImporter LookAtImporter(const Importer& importer) {
  GpuImporter seen{.pid = importer.process.pid, .state = GpuImporter::State::kOpen};
  if (importer.state == Importer::State::kLeft) seen.state = GpuImporter::State::kLeft;
  if (importer.state == Importer::State::kClosed) seen.state = GpuImporter::State::kClosed;
  if (seen.pid > 0 && HasEnded(importer.process)) {
    seen.state = GpuImporter::State::kEnded;
    seen.pid_reused = PidIsReused(importer.process);
  }
  return seen;
}

}  // namespace

ipc::cuda::GpuConfirmation LookAtGpu(const GpuQuestion& question, uint64_t arena_bytes,
                                     ipc::cuda::GpuSource& source,
                                     ipc::cuda::TrialAllocator& allocator) {
  GpuEvidence evidence;
  evidence.owner = question.owner.pid;
  evidence.arena_bytes = arena_bytes;
  evidence.needed_bytes = question.needed_bytes;
  evidence.successor = question.successor;
  evidence.baseline = question.baseline;
  // Processes before the list: who ends in between is listed at worst, and that is no `freed`.
  for (const Importer& importer : question.importers) {
    evidence.importers.push_back(LookAtImporter(importer));
  }
  evidence.now = source.Survey(question.device);
  // The owner's pid after the list: it may be given out again any time.
  evidence.owner_pid_reused = PidIsReused(question.owner);
  ipc::cuda::GpuConfirmation confirmation = ConfirmGpuMemory(evidence);
  if (!confirmation.wants_trial) return confirmation;
  evidence.trial = allocator.Try(question.device, question.needed_bytes);
  return ConfirmGpuMemory(evidence);
}

}  // namespace baton::runtime

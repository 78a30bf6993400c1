// SupervisorCore: what NVML says of the GPU while a generation serves, so that
// what it says after that generation's end means something.
#include <poll.h>

#include <string>
#include <utility>

#include "ipc/futex.h"
#include "ipc/poll_fd.h"
#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {
namespace {

// Drivers give device memory in pieces of this size. No more margin than that: whatever else a
// worker takes (its context, workspaces) its predecessor had, too, and where a model fills the GPU
// there is nothing beside it that could ever be free.
constexpr uint64_t kDeviceMemoryGranuleBytes = uint64_t{2} << 20;

}  // namespace

// NVML may hang, and whoever confirms would wait for that: so never where nobody serves.
bool SupervisorCore::MaySurvey() const {
  return survey_.wanted() && confirming_ == 0 && machine_.serves() &&
         helper_.state() == ConfirmHelper::State::kIdle;
}

void SupervisorCore::AskForSurvey(int64_t now_ns) {
  if (!MaySurvey()) return;
  survey_.Asked();
  const uint64_t serving = machine_.serving_generation();
  if (const auto device = ledger_.Gpu(serving)) {
    helper_.AskSurvey(serving, *device, config_.reload.helper_timeout, now_ns);
  }
}

// With nothing to compare with, or with what does not know a front's context, the end of its memory
// may never be proven: better that a reload begins a little later than that it never ends. The one
// that serves goes on meanwhile.
bool SupervisorCore::NeedsSurvey() const {
  const uint64_t serving = machine_.serving_generation();
  return ledger_.Gpu(serving).has_value() &&
         (!ledger_.HasBaseline(serving) || !survey_.up_to_date());
}

bool SupervisorCore::AwaitsSurvey(uint64_t successor) {
  const bool needed = machine_.step() == ipc::ServerState::kStaging && NeedsSurvey();
  return survey_.Awaits(successor, needed, absl::ToInt64Nanoseconds(config_.reload.helper_timeout),
                        ipc::MonotonicNs());
}

// The same before a stop: it shows that its memory is gone, too. Whatever is staged will never
// serve, so that the one that waits is the one that serves itself.
bool SupervisorCore::StopAwaitsSurvey() {
  const ipc::ServerState step = machine_.step();
  const bool needed =
      (step == ipc::ServerState::kServing || step == ipc::ServerState::kStaging) && NeedsSurvey();
  return survey_.Awaits(machine_.serving_generation(), needed,
                        absl::ToInt64Nanoseconds(config_.reload.helper_timeout),
                        ipc::MonotonicNs());
}

void SupervisorCore::EndSurveyWait() {
  if (stop_waits_) {
    if (StopAwaitsSurvey()) return;
    stop_waits_ = false;
    Push(ReloadEvent::Kind::kStop);
    return;
  }
  const uint64_t waiting = survey_.waiting();
  if (waiting == 0) return;
  const WorkerHandle* successor = Worker(waiting);
  if (successor == nullptr) {
    survey_.Gone();
  } else if (!AwaitsSurvey(waiting)) {
    Staged(*successor);
  }
}

void SupervisorCore::Surveyed(uint64_t generation,
                              const absl::StatusOr<ipc::cuda::GpuSurvey>& survey) {
  const absl::Status status = survey.ok() ? survey->processes.status() : survey.status();
  if (!status.ok()) {
    log_->warn(
        "NVML does not say who uses the GPU ({}): whether memory is gone will be told by a trial "
        "allocation",
        std::string(status.message()));
  }
  const auto device = ledger_.Gpu(generation);
  // The helper that it hung or died with is replaced.
  if (!survey.ok()) survey_.Failed();
  if (!survey.ok() || !device) return;
  survey_.Answered();
  for (const uint64_t there : ledger_.OnGpu(*device)) {
    const WorkerHandle* worker = Worker(there);
    // One that has ended by now may have ended before NVML was asked: its memory was free already,
    // and would never be seen to come back.
    if (worker == nullptr || ipc::PollFd(worker->pidfd(), POLLIN, absl::ZeroDuration())) continue;
    if (!ledger_.HasBaseline(there) && survey->processes.ok()) {
      log_->info("NVML was asked who uses the GPU of generation {}: {} processes", there,
                 survey->processes->size());
    }
    ledger_.TakeBaseline(there, *survey);
  }
}

std::optional<ConfirmQuestion> SupervisorCore::Question(uint64_t generation, bool name_holders) {
  auto question = ledger_.Question(generation, name_holders);
  if (!question || !question->gpu) return question;
  question->gpu->importers = fronts_.Importers(generation);
  question->gpu->needed_bytes = NeededBytes(generation);
  if (const WorkerHandle* next = Worker(machine_.next_generation())) {
    question->gpu->successor = next->pid();
  }
  return question;
}

// Where nobody is about to allocate, what was freed is to be free.
uint64_t SupervisorCore::NeededBytes(uint64_t generation) const {
  const auto next = workers_.find(machine_.next_generation());
  if (next != workers_.end() && next->first != generation && !next->second->admitted &&
      next->second->device_bytes != 0) {
    const uint64_t bytes = next->second->device_bytes;
    const uint64_t beyond = bytes % kDeviceMemoryGranuleBytes;
    return beyond == 0 ? bytes : bytes + kDeviceMemoryGranuleBytes - beyond;
  }
  return ledger_.BytesInUse(generation);
}

}  // namespace baton::runtime

#include "runtime/supervisor/device_ledger.h"

#include <sys/types.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::runtime {

using Kind = ipc::cuda::ArenaDescription::Kind;

std::string DeviceLedger::source() const {
  return kind_ == Kind::kHost ? "st_blocks of the arena's memfd"
                              : "bytes of the exported arenas that are not confirmed freed";
}

absl::Status DeviceLedger::Add(ipc::ArenaExport arena, const ipc::cuda::ArenaDescription& what,
                               const ipc::ProcessIdentity& owner) {
  if (arena.bytes == 0) return absl::OkStatus();
  if (what.bytes != arena.bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("an arena of ", arena.bytes, " bytes, whose handle is of ", what.bytes));
  }
  const uint64_t generation = arena.generation;
  Entry entry;
  entry.bytes = arena.bytes;
  entry.token = arena.token;
  if (what.kind == Kind::kCuda) {
    // Its descriptor, if it has one, goes here: on a GPU each keeps the memory.
    entry.gpu = GpuArena{.device = what.device, .owner = owner, .baseline = std::nullopt};
    // One that dies before it was ever seen. Its fronts' contexts were seen with the one before it.
    if (last_seen_ && last_seen_->device == what.device) {
      entry.gpu->baseline =
          Inherited(*last_seen_->baseline, last_seen_->owner.pid, entry.gpu->owner.pid);
      entry.gpu->inherited = true;
    }
  } else {
    absl::StatusOr<std::unique_ptr<ipc::ArenaWitness>> witness =
        ipc::WitnessHostArena(std::move(arena));
    if (!witness.ok()) return witness.status();
    entry.witness = *std::move(witness);
  }
  kind_ = what.kind;
  entries_[generation] = std::move(entry);
  Sample();
  return absl::OkStatus();
}

void DeviceLedger::AddUnwatched(uint64_t generation, const std::string& why) {
  entries_[generation].unwatched = why;
}

std::string DeviceLedger::Unwatched(uint64_t generation) const {
  const auto entry = entries_.find(generation);
  return entry == entries_.end() ? "" : entry->second.unwatched;
}

uint64_t DeviceLedger::BytesInUse(uint64_t generation) const {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end()) return 0;
  if (entry->second.witness == nullptr) return entry->second.bytes;  // 0 where it is unwatched
  return entry->second.witness->BytesInUse().value_or(entry->second.bytes);
}

uint64_t DeviceLedger::BytesInUse() const {
  uint64_t bytes = 0;
  for (const auto& [generation, entry] : entries_) bytes += BytesInUse(generation);
  return bytes;
}

void DeviceLedger::Sample() { peak_bytes_ = std::max(peak_bytes_, BytesInUse()); }

void DeviceLedger::ResetPeak() {
  peak_bytes_ = 0;
  Sample();
}

std::optional<ConfirmQuestion> DeviceLedger::Question(uint64_t generation, bool name_holders) {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end()) return std::nullopt;
  if (const auto& gpu = entry->second.gpu) {
    return ConfirmQuestion{.generation = generation,
                           .bytes = entry->second.bytes,
                           .fd = -1,
                           .token = entry->second.token,
                           .asked_before = false,
                           .name_holders = name_holders,
                           .gpu = GpuQuestion{.device = gpu->device,
                                              .owner = gpu->owner,
                                              .successor = 0,
                                              .needed_bytes = 0,
                                              .importers = {},
                                              .baseline = gpu->baseline}};
  }
  if (entry->second.witness == nullptr) return std::nullopt;
  return ConfirmQuestion{.generation = generation,
                         .bytes = entry->second.bytes,
                         .fd = entry->second.witness->fd(),
                         .token = entry->second.token,
                         .asked_before = std::exchange(entry->second.may_be_sealed, true),
                         .name_holders = name_holders};
}

std::optional<ipc::cuda::Uuid> DeviceLedger::Gpu(uint64_t generation) const {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end() || !entry->second.gpu) return std::nullopt;
  return entry->second.gpu->device;
}

std::vector<uint64_t> DeviceLedger::OnGpu(const ipc::cuda::Uuid& device) const {
  std::vector<uint64_t> generations;
  for (const auto& [generation, entry] : entries_) {
    if (entry.gpu && std::memcmp(&entry.gpu->device, &device, sizeof(device)) == 0) {
      generations.push_back(generation);
    }
  }
  return generations;
}

bool DeviceLedger::HasBaseline(uint64_t generation) const {
  const auto entry = entries_.find(generation);
  return entry != entries_.end() && entry->second.gpu && entry->second.gpu->baseline &&
         !entry->second.gpu->inherited;
}

// What was seen while another worker of this server lived, as a baseline of one that was not seen:
// it was started by the same process in the same way, so where that one was visible it is. How much
// was free says nothing of it.
ipc::cuda::GpuSurvey DeviceLedger::Inherited(const ipc::cuda::GpuSurvey& survey, pid_t from,
                                             pid_t to) {
  ipc::cuda::GpuSurvey inherited = survey;
  inherited.memory = absl::UnavailableError("it was not asked while this worker lived");
  for (ipc::cuda::GpuSurvey::Process& process : *inherited.processes) {
    if (process.pid == from) process.pid = to;
  }
  return inherited;
}

void DeviceLedger::TakeBaseline(uint64_t generation, const ipc::cuda::GpuSurvey& survey) {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end() || !entry->second.gpu) return;
  GpuArena& gpu = *entry->second.gpu;
  const auto shows_owner = [&](const ipc::cuda::GpuSurvey& seen) {
    return seen.processes.ok() && ipc::cuda::FindProcess(seen, gpu.owner.pid) != nullptr;
  };
  const bool own = gpu.baseline && !gpu.inherited;
  if (gpu.leaving && (own || !shows_owner(survey))) return;
  const bool knows_less = !survey.processes.ok() ||
                          (gpu.baseline && shows_owner(*gpu.baseline) && !shows_owner(survey));
  if (!gpu.baseline || gpu.inherited || !knows_less) {
    gpu.baseline = survey;
    gpu.inherited = false;
  }
  if (shows_owner(survey)) {
    last_seen_ = GpuArena{.device = gpu.device, .owner = gpu.owner, .baseline = survey};
  }
}

void DeviceLedger::Leaving(uint64_t generation) {
  const auto entry = entries_.find(generation);
  if (entry != entries_.end() && entry->second.gpu) entry->second.gpu->leaving = true;
}

void DeviceLedger::Answered(uint64_t generation, const DeviceVerdict& verdict) {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end() || !verdict.answered) return;
  entry->second.may_be_sealed = verdict.freed || verdict.text == "driver-held";
}

}  // namespace baton::runtime

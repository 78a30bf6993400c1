#include "runtime/supervisor/device_ledger.h"

#include <sys/types.h>

#include <algorithm>
#include <utility>

namespace baton::runtime {

std::string DeviceLedger::source() { return "st_blocks of the arena's memfd"; }

absl::Status DeviceLedger::Add(ipc::ArenaExport arena) {
  if (arena.bytes == 0) return absl::OkStatus();
  const uint64_t generation = arena.generation;
  const uint64_t bytes = arena.bytes;
  std::string token = arena.token;
  absl::StatusOr<std::unique_ptr<ipc::ArenaWitness>> witness =
      ipc::WitnessHostArena(std::move(arena));
  if (!witness.ok()) return witness.status();
  entries_[generation] = {*std::move(witness), bytes, std::move(token), ""};
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
  if (entry == entries_.end() || entry->second.witness == nullptr) return 0;
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
  if (entry == entries_.end() || entry->second.witness == nullptr) return std::nullopt;
  return ConfirmQuestion{.generation = generation,
                         .bytes = entry->second.bytes,
                         .fd = entry->second.witness->fd(),
                         .token = entry->second.token,
                         .asked_before = std::exchange(entry->second.may_be_sealed, true),
                         .name_holders = name_holders};
}

void DeviceLedger::Answered(uint64_t generation, const DeviceVerdict& verdict) {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end() || !verdict.answered) return;
  entry->second.may_be_sealed = verdict.freed || verdict.text == "driver-held";
}

}  // namespace baton::runtime

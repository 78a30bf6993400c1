#include "runtime/supervisor/device_ledger.h"

#include <sys/types.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baton::runtime {

std::string DeviceLedger::source() { return "st_blocks of the arena's memfd"; }

absl::Status DeviceLedger::Add(ipc::ArenaExport arena) {
  if (arena.bytes == 0) return absl::OkStatus();
  const uint64_t generation = arena.generation;
  const uint64_t bytes = arena.bytes;
  absl::StatusOr<std::unique_ptr<ipc::ArenaWitness>> witness =
      ipc::WitnessHostArena(std::move(arena));
  if (!witness.ok()) return witness.status();
  entries_[generation] = {*std::move(witness), bytes};
  Sample();
  return absl::OkStatus();
}

uint64_t DeviceLedger::BytesInUse(uint64_t generation) const {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end()) return 0;
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

DeviceVerdict DeviceLedger::Confirm(uint64_t generation, bool name_holder) {
  const auto entry = entries_.find(generation);
  if (entry == entries_.end()) {
    return {true, "freed", "no arena was exported; its owner was reaped"};
  }
  const std::string source(entry->second.witness->source());
  switch (entry->second.witness->Confirm()) {
    case ipc::ArenaWitness::Verdict::kFreed:
      return {true, "freed", source};
    case ipc::ArenaWitness::Verdict::kStillMapped: {
      const std::vector<pid_t> holders =
          name_holder ? entry->second.witness->Holders() : std::vector<pid_t>();
      return {false, holders.empty() ? "pinned" : absl::StrCat("pinned-by ", holders.front()),
              source};
    }
    case ipc::ArenaWitness::Verdict::kUnknown:
      break;
  }
  return {false, "unknown", source};
}

}  // namespace baton::runtime

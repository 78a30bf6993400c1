#include "runtime/supervisor/device_ledger.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace baton::runtime {

namespace fs = std::filesystem;

namespace {

bool Maps(const fs::path& maps_file, dev_t device, ino_t inode) {
  std::ifstream file(maps_file);
  for (std::string line; std::getline(file, line);) {
    unsigned int major_id = 0;
    unsigned int minor_id = 0;
    unsigned long line_inode = 0;
    if (std::sscanf(line.c_str(), "%*s %*s %*s %x:%x %lu", &major_id, &minor_id, &line_inode) ==
            3 &&
        line_inode == inode && makedev(major_id, minor_id) == device) {
      return true;
    }
  }
  return false;
}

}  // namespace

pid_t FindMapper(dev_t device, ino_t inode) {
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(it->path().filename().native(), &pid)) continue;
    if (Maps(it->path() / "maps", device, inode)) return pid;
  }
  return 0;
}

std::string DeviceLedger::source() { return "st_blocks of the arena's memfd"; }

absl::Status DeviceLedger::Add(ipc::ArenaExport arena) {
  if (arena.bytes == 0) return absl::OkStatus();
  const uint64_t generation = arena.generation;
  const uint64_t bytes = arena.bytes;
  struct stat info{};
  if (::fstat(arena.fd.get(), &info) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "generation ", generation, " exported ", arena.bytes, " device bytes without a descriptor"));
  }
  absl::StatusOr<std::unique_ptr<ipc::ArenaWitness>> witness =
      ipc::WitnessHostArena(std::move(arena));
  if (!witness.ok()) return witness.status();
  entries_[generation] = {*std::move(witness), info.st_dev, info.st_ino, bytes};
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
      const pid_t pid =
          name_holder ? FindMapper(entry->second.device, entry->second.inode) : 0;
      return {false, pid == 0 ? "pinned" : absl::StrCat("pinned-by ", pid), source};
    }
    case ipc::ArenaWitness::Verdict::kUnknown:
      break;
  }
  return {false, "unknown", source};
}

}  // namespace baton::runtime

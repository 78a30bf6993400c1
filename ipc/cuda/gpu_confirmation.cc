#include "ipc/cuda/gpu_confirmation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace baton::ipc::cuda {
namespace {

using Verdict = GpuConfirmation::Verdict;
using State = GpuImporter::State;

constexpr char kListSource[] = "NVML process list + free memory";
// More names than an operator reads.
constexpr size_t kMaxNamed = 5;

std::string Pid(pid_t pid) {
  return pid > 0 ? absl::StrCat("pid ", pid) : "a process of another pid namespace";
}

GpuConfirmation Unknown(std::string detail, std::string source = "") {
  return {.verdict = Verdict::kUnknown,
          .wants_trial = false,
          .holders = {},
          .source = std::move(source),
          .detail = std::move(detail)};
}

GpuConfirmation Held(pid_t pid, std::string source, std::string detail) {
  GpuConfirmation held{.verdict = Verdict::kStillMapped,
                       .wants_trial = false,
                       .holders = {},
                       .source = std::move(source),
                       .detail = std::move(detail)};
  if (pid > 0) held.holders.push_back(pid);
  return held;
}

GpuConfirmation Teardown(std::string who) {
  return {
      .verdict = Verdict::kDriverHeld,
      .wants_trial = false,
      .holders = {},
      .source = "NVML process list",
      .detail = absl::StrCat(std::move(who),
                             " has ended and is still in the driver's process list: teardown is "
                             "under way. It takes longer the more host memory was pinned; if it "
                             "does not end, look for Xid messages in dmesg")};
}

// How much more `pid` uses than in the baseline; nullopt: not known.
std::optional<uint64_t> Growth(const GpuEvidence& evidence, const GpuSurvey::Process& now) {
  if (!evidence.baseline || !now.bytes) return std::nullopt;
  const GpuSurvey::Process* before = FindProcess(*evidence.baseline, now.pid);
  if (before == nullptr || !before->bytes) return std::nullopt;
  return *now.bytes - std::min(*now.bytes, *before->bytes);
}

bool HalfOfArena(const GpuEvidence& evidence, uint64_t bytes) {
  return bytes >= evidence.arena_bytes - evidence.arena_bytes / 2;
}

// Free memory of the device that the arena was on; nullopt: not known.
std::optional<uint64_t> FreeBytes(const GpuSurvey& survey) {
  if (!survey.memory.ok() || !survey.mig.ok() || *survey.mig) return std::nullopt;
  return survey.memory->free_bytes;
}

// Rows 2 to 5: what speaks against it counts, whatever the list leaves out.
std::optional<GpuConfirmation> SpeaksAgainst(const GpuEvidence& evidence) {
  for (const GpuImporter& importer : evidence.importers) {
    if (importer.state != State::kOpen) continue;
    return Held(importer.pid, "the importer has not said that it has closed",
                absl::StrCat(Pid(importer.pid),
                             " has not closed its import of the arena and lives: as long as it "
                             "does, the driver keeps the memory. End that process"));
  }
  if (!evidence.owner_pid_reused && FindProcess(evidence.now, evidence.owner) != nullptr) {
    return Teardown(absl::StrCat("the worker (pid ", evidence.owner, ")"));
  }
  for (const GpuImporter& importer : evidence.importers) {
    const GpuSurvey::Process* now = FindProcess(evidence.now, importer.pid);
    if (now == nullptr || importer.pid_reused) continue;
    if (importer.state == State::kEnded) {
      return Teardown(absl::StrCat("an importer (pid ", importer.pid, ")"));
    }
    const std::optional<uint64_t> growth = Growth(evidence, *now);
    if (!growth || *growth < evidence.arena_bytes) continue;
    return Held(importer.pid, "NVML process list: the importer's use has grown",
                absl::StrCat("pid ", importer.pid, " uses ", *growth,
                             " bytes more than while the worker lived, and the arena has ",
                             evidence.arena_bytes,
                             ": it still maps it, or has itself allocated as much. End that "
                             "process"));
  }
  return std::nullopt;
}

// Why the list proves nothing about the owner; empty: it does.
std::string WhyNotTrusted(const GpuEvidence& evidence) {
  const GpuSurvey& now = evidence.now;
  if (!now.processes.ok()) {
    return absl::StrCat("NVML's process list is not known: ",
                        std::string(now.processes.status().message()));
  }
  if (!now.mig.ok()) {
    return absl::StrCat("whether the GPU is cut into MIG instances is not known: ",
                        std::string(now.mig.status().message()));
  }
  if (*now.mig) return "the GPU is in MIG mode: NVML's free memory is not that of one instance";
  if (!now.memory.ok()) {
    return absl::StrCat("free memory is not known: ", std::string(now.memory.status().message()));
  }
  if (!evidence.baseline) {
    return "NVML was never asked while the worker lived, so that its absence from the process "
           "list proves nothing";
  }
  if (!evidence.baseline->processes.ok()) {
    return absl::StrCat("while the worker lived NVML's process list was not known: ",
                        std::string(evidence.baseline->processes.status().message()));
  }
  if (FindProcess(*evidence.baseline, evidence.owner) == nullptr) {
    return "NVML did not show the worker's pid while it lived, so that its absence proves "
           "nothing: in a container, share the host's pid namespace (--pid=host)";
  }
  if (evidence.owner_pid_reused && FindProcess(now, evidence.owner) != nullptr) {
    return absl::StrCat("pid ", evidence.owner,
                        ", which was the worker's, is another process's now, and is listed");
  }
  return "";
}

// Why that importer may still have it; empty: it has not.
std::string WhyNotAccounted(const GpuEvidence& evidence, const GpuImporter& importer) {
  if (importer.pid <= 0) {
    return importer.state == State::kEnded
               ? ""
               : "an importer lives in a pid namespace that NVML does not show here";
  }
  const GpuSurvey::Process* now = FindProcess(evidence.now, importer.pid);
  if (now == nullptr) return "";
  const std::string who = absl::StrCat("importer pid ", importer.pid);
  if (importer.pid_reused) {
    return absl::StrCat(who, " has ended, its pid is another process's now, and is listed");
  }
  if (!now->bytes) return absl::StrCat("NVML does not say how much ", who, " uses");
  if (!HalfOfArena(evidence, *now->bytes)) return "";
  const std::optional<uint64_t> growth = Growth(evidence, *now);
  if (!growth) {
    return absl::StrCat(who, " uses ", *now->bytes,
                        " bytes, and how much it used before is not known");
  }
  if (!HalfOfArena(evidence, *growth)) return "";
  return absl::StrCat(who, " uses ", *growth, " bytes more than while the worker lived");
}

// Whether what it is seen to use may have the arena in it.
bool MayHaveIt(const GpuEvidence& evidence, const GpuImporter& importer) {
  const GpuSurvey::Process* now = FindProcess(evidence.now, importer.pid);
  if (now == nullptr || !now->bytes || !HalfOfArena(evidence, *now->bytes)) return false;
  return HalfOfArena(evidence, Growth(evidence, *now).value_or(*now->bytes));
}

// "pid 17 uses 4096 bytes, pid 18 uses an unknown number of bytes; ..."
std::string WhoUsesIt(const GpuEvidence& evidence) {
  const GpuSurvey& now = evidence.now;
  if (!now.processes.ok()) return "who uses the rest is not known";
  std::vector<GpuSurvey::Process> others = *now.processes;
  std::stable_sort(others.begin(), others.end(), [](const auto& a, const auto& b) {
    return a.bytes.value_or(0) > b.bytes.value_or(0);
  });
  std::vector<std::string> words;
  uint64_t listed = 0;
  for (const GpuSurvey::Process& process : others) {
    listed += process.bytes.value_or(0);
    if (words.size() == kMaxNamed) continue;
    words.push_back(absl::StrCat(
        process.pid == evidence.successor ? "the successor (" : "", "pid ", process.pid,
        process.pid == evidence.successor ? ")" : "", " uses ",
        process.bytes ? absl::StrCat(*process.bytes) : "an unknown number of", " bytes"));
  }
  if (others.size() > words.size()) {
    words.push_back(absl::StrCat(others.size() - words.size(), " more"));
  }
  const uint64_t used = now.memory->total_bytes - now.memory->free_bytes;
  if (used > listed) {
    words.push_back(absl::StrCat(used - listed,
                                 " bytes are the driver's own or of processes that are not "
                                 "shown here"));
  }
  return absl::StrJoin(words, ", ");
}

GpuConfirmation TooLittleFree(const GpuEvidence& evidence, uint64_t free) {
  return Unknown(absl::StrCat("nothing of the worker is seen, yet of the ", evidence.needed_bytes,
                              " bytes that are needed only ", free, " are free: ",
                              WhoUsesIt(evidence), ". Free some, or serve a smaller model"),
                 kListSource);
}

// Rows 8 to 15. `why` the list does not tell.
GpuConfirmation WithoutList(const GpuEvidence& evidence, const std::string& why) {
  for (const GpuImporter& importer : evidence.importers) {
    if (importer.state != State::kLeft) continue;
    return Unknown(absl::StrCat(Pid(importer.pid),
                                " has hung up without saying that it had closed its import, and ",
                                why, ". End that process"));
  }
  const std::optional<uint64_t> free = FreeBytes(evidence.now);
  if (free && *free < evidence.needed_bytes) return TooLittleFree(evidence, *free);
  const std::optional<uint64_t> before =
      evidence.baseline ? FreeBytes(*evidence.baseline) : std::nullopt;
  if (free && before && !HalfOfArena(evidence, *free - std::min(*free, *before))) {
    return Unknown(
        absl::StrCat("free memory was ", *before, " bytes while the worker lived and is ", *free,
                     " now: the arena's ", evidence.arena_bytes,
                     " have not come back, or somebody else has taken them; and ", why),
        "NVML free memory");
  }
  for (const GpuImporter& importer : evidence.importers) {
    if ((free && before) || !MayHaveIt(evidence, importer)) continue;
    return Unknown(absl::StrCat(Pid(importer.pid),
                                " imported the arena and uses as much, whether free memory has "
                                "come back cannot be seen, and ",
                                why, ". End that process"),
                   "NVML process list");
  }
  if (!evidence.trial) {
    GpuConfirmation unknown = Unknown(absl::StrCat(why, "; and no trial allocation was made"));
    unknown.wants_trial = true;
    return unknown;
  }
  const std::string source = absl::StrCat("trial allocation of ", evidence.trial->bytes, " bytes");
  if (!evidence.trial->status.ok()) {
    return Unknown(absl::StrCat(why, "; and a ", source,
                                " failed: ", std::string(evidence.trial->status.message())),
                   source);
  }
  if (evidence.trial->bytes < evidence.needed_bytes) {
    return Unknown(absl::StrCat(why, "; and a ", source, " says nothing about the ",
                                evidence.needed_bytes, " that are needed"),
                   source);
  }
  return {.verdict = Verdict::kFreed,
          .wants_trial = false,
          .holders = {},
          .source = source,
          .detail = ""};
}

}  // namespace

GpuConfirmation ConfirmGpuMemory(const GpuEvidence& evidence) {
  if (evidence.owner <= 0 || evidence.arena_bytes == 0 || evidence.needed_bytes == 0) {
    return Unknown(absl::StrCat("the question is incomplete: worker pid ", evidence.owner,
                                ", arena of ", evidence.arena_bytes, " bytes, ",
                                evidence.needed_bytes, " needed"));
  }
  if (auto against = SpeaksAgainst(evidence)) return *std::move(against);
  std::string why = WhyNotTrusted(evidence);
  for (const GpuImporter& importer : evidence.importers) {
    if (why.empty()) why = WhyNotAccounted(evidence, importer);
  }
  if (!why.empty()) return WithoutList(evidence, why);
  const uint64_t free = evidence.now.memory->free_bytes;
  if (free < evidence.needed_bytes) return TooLittleFree(evidence, free);
  return {.verdict = Verdict::kFreed,
          .wants_trial = false,
          .holders = {},
          .source = kListSource,
          .detail = ""};
}

}  // namespace baton::ipc::cuda

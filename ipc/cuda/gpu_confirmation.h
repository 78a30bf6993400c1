// Whether the device memory of a worker that was reaped is gone, concluded from
// what NVML says now, what it said while the worker lived, and what the
// supervisor knows. A pure function: asks nobody, guesses nothing.
//
// The first row that applies decides. "Listed": in NVML's process list now.
// "Half of it": more than half of the arena's bytes; uses move a little by
// themselves, and an arena that is smaller than that is none.
//
//    1  the question lacks the owner's pid, the   unknown
//       arena's or the needed bytes
//    2  an importer has not closed, and lives     still mapped, by it
//    3  the owner is listed                       driver-held: teardown is under way
//    4  an importer that has ended is listed      driver-held, likewise
//    5  an importer's use has grown by the arena  still mapped, by it: the driver
//                                                 has re-charged the arena to it
//    -- the list is trusted, and every importer is accounted for:
//    6  free memory < needed                      unknown, with who uses how much
//    7  free memory >= needed                     freed, "NVML process list + free memory"
//    -- the list is not trusted, or an importer is not accounted for:
//    8  an importer that lives has hung up        unknown
//       without saying that it had closed
//    9  free memory < needed                      unknown, with who uses how much
//   10  free memory has not risen by half of it   unknown
//   11  whether it has risen is not known, and    unknown
//       an importer is seen to use, or to have
//       grown by, half of it
//   12  no trial allocation was made              unknown, wants_trial
//   13  it failed                                 unknown, with the driver's words
//   14  it was of fewer bytes than are needed     unknown
//   15  it succeeded                              freed, "trial allocation of N bytes"
//
// The list is trusted when it is known, free memory is known, the GPU is not
// cut into MIG instances, and in the baseline the owner's own pid was in the
// list: NVML leaves out processes of other pid namespaces without a word, so
// that absence proves something only for whom it has shown before.
// An importer is accounted for when it has ended and is not listed, or when it
// is not listed, or when its use is known and either below half of the arena,
// or known in the baseline and not grown by half of it. A stranger's growth
// does not matter: the supervisor knows whom it has sent the arena.
// A pid that another process has by now is never taken for the one that was
// meant; where such a pid is listed the list is not trusted.
// Rows 9 and 10 apply where both sides are known; in MIG mode free memory is
// the whole GPU's and counts as not known. Rows 10 and 11 are there because on a
// GPU with room a trial succeeds whether the arena is gone or not.
//
// Thread safety: pure functions. Whoever asks asks twice in a row.
#ifndef BATON_IPC_CUDA_GPU_CONFIRMATION_H_
#define BATON_IPC_CUDA_GPU_CONFIRMATION_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "ipc/cuda/gpu_survey.h"

namespace baton::ipc::cuda {

// A process that had the arena, as the supervisor knows it.
struct GpuImporter {
  enum class State {
    kOpen,    // it has not closed its import, as far as anybody knows
    kLeft,    // it has hung up, and has not said that it had closed
    kClosed,  // it has said that it has
    kEnded,   // the process has ended
  };
  pid_t pid = 0;  // 0: it lives in a pid namespace that cannot be seen from here
  State state = State::kOpen;
  bool pid_reused = false;  // kEnded, and another process has its pid now
};

// One allocation of `bytes`, made and freed again.
struct TrialOutcome {
  uint64_t bytes = 0;
  absl::Status status;
};

struct GpuEvidence {
  pid_t owner = 0;                // reaped
  bool owner_pid_reused = false;  // another process has its pid now
  uint64_t arena_bytes = 0;
  // What the successor is going to allocate, rounded up as the driver does.
  uint64_t needed_bytes = 0;
  pid_t successor = 0;  // 0: none. For words only
  std::vector<GpuImporter> importers;
  // Taken while the owner lived and had a context; nullopt: there is none.
  std::optional<GpuSurvey> baseline;
  GpuSurvey now = UnknownSurvey(absl::UnknownError("NVML was not asked"));
  std::optional<TrialOutcome> trial;
};

struct GpuConfirmation {
  enum class Verdict { kFreed, kStillMapped, kDriverHeld, kUnknown };
  Verdict verdict = Verdict::kUnknown;
  bool wants_trial = false;    // only a trial allocation can tell
  std::vector<pid_t> holders;  // kStillMapped; empty: by somebody that has no pid here
  std::string source;          // how it is known, for the receipt
  std::string detail;          // unless kFreed: what is in the way, and what to do
};

GpuConfirmation ConfirmGpuMemory(const GpuEvidence& evidence);

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_GPU_CONFIRMATION_H_

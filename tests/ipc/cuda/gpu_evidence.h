// What a test starts from: a worker with an arena is gone, and everything that is
// to be known is known.
#ifndef BATON_TESTS_IPC_CUDA_GPU_EVIDENCE_H_
#define BATON_TESTS_IPC_CUDA_GPU_EVIDENCE_H_

#include <sys/types.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "ipc/cuda/gpu_confirmation.h"
#include "ipc/cuda/gpu_survey.h"

namespace baton::ipc::cuda {

inline constexpr pid_t kOwner = 100;
inline constexpr pid_t kFront = 200;
inline constexpr pid_t kStranger = 300;
inline constexpr uint64_t kMiB = 1 << 20;
inline constexpr uint64_t kTotal = 80'000 * kMiB;
inline constexpr uint64_t kArena = 10'000 * kMiB;
inline constexpr uint64_t kContext = 500 * kMiB;
inline constexpr uint64_t kNeeded = kArena + 64 * kMiB;
inline constexpr uint64_t kFreeBefore = 5'000 * kMiB;
inline constexpr uint64_t kFreeAfter = kFreeBefore + kArena + kContext;

inline GpuSurvey Survey(uint64_t free, std::vector<GpuSurvey::Process> processes) {
  return {
      .memory = GpuSurvey::Memory{kTotal, free}, .processes = std::move(processes), .mig = false};
}

// The worker and a front lived; the worker is gone, the front has closed.
inline GpuEvidence AllIsWell() {
  GpuEvidence evidence;
  evidence.owner = kOwner;
  evidence.arena_bytes = kArena;
  evidence.needed_bytes = kNeeded;
  evidence.importers = {{.pid = kFront, .state = GpuImporter::State::kClosed}};
  evidence.baseline = Survey(kFreeBefore, {{kOwner, kArena + kContext}, {kFront, kContext}});
  evidence.now = Survey(kFreeAfter, {{kFront, kContext}});
  return evidence;
}

inline GpuEvidence With(GpuEvidence evidence, absl::Status trial, uint64_t bytes = kNeeded) {
  evidence.trial = TrialOutcome{bytes, std::move(trial)};
  return evidence;
}

}  // namespace baton::ipc::cuda

#endif  // BATON_TESTS_IPC_CUDA_GPU_EVIDENCE_H_

// A trial allocation: whether so many bytes can be had on a GPU, found out by
// having them for a moment; and whether NVML shows this process to itself.
//
// Both make a context in this process (0.1 to 2 s, hundreds of MiB for as long
// as it lasts) and release it again. Both may hang in the driver: only
// processes that somebody can do without call them, baton-confirm and the
// checks of `shmctl doctor`.
//
// Thread safety: each object belongs to one thread at a time.
#ifndef BATON_IPC_CUDA_TRIAL_ALLOCATION_H_
#define BATON_IPC_CUDA_TRIAL_ALLOCATION_H_

#include <cstdint>

#include "absl/status/statusor.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/cuda/gpu_confirmation.h"
#include "ipc/cuda/gpu_survey.h"

namespace baton::ipc::cuda {

class TrialAllocator {
 public:
  virtual ~TrialAllocator() = default;
  // Allocates and frees `bytes`; nothing of it stays.
  virtual TrialOutcome Try(const Uuid& device, uint64_t bytes) = 0;
};

// The driver of this process.
class DriverTrial final : public TrialAllocator {
 public:
  TrialOutcome Try(const Uuid& device, uint64_t bytes) override;
};

// Whether this process, with a context on the device, is in the list that
// `source` gives: only then does a pid's absence from it prove anything about
// processes of this pid namespace. An error: it could not be found out.
absl::StatusOr<bool> SeesItself(const Uuid& device, GpuSource& source);

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_TRIAL_ALLOCATION_H_

// The helper's look at an arena on a GPU: asks NVML, and where that is not
// enough the driver, and concludes (ipc/cuda/gpu_confirmation.h).
//
// Thread safety: belongs to the one thread of baton-confirm. A look may hang in
// the driver for as long as that likes.
#ifndef BATON_RUNTIME_SUPERVISOR_GPU_LOOK_H_
#define BATON_RUNTIME_SUPERVISOR_GPU_LOOK_H_

#include <cstdint>

#include "ipc/cuda/gpu_confirmation.h"
#include "ipc/cuda/gpu_survey.h"
#include "ipc/cuda/trial_allocation.h"
#include "runtime/supervisor/gpu_question.h"

namespace baton::runtime {

// Makes a trial allocation only where nothing speaks against it and nothing
// else can tell: it costs a context.
ipc::cuda::GpuConfirmation LookAtGpu(const GpuQuestion& question, uint64_t arena_bytes,
                                     ipc::cuda::GpuSource& source,
                                     ipc::cuda::TrialAllocator& allocator);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_GPU_LOOK_H_

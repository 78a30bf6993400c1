// The helper's part: looks at arenas in the supervisor's place, because a look
// may wait in the kernel or in a driver for as long as it likes.
//
// Thread safety: belongs to the one thread of baton-confirm.
#ifndef BATON_RUNTIME_SUPERVISOR_CONFIRMATION_H_
#define BATON_RUNTIME_SUPERVISOR_CONFIRMATION_H_

#include "absl/status/status.h"

#include "ipc/control_socket.h"
#include "ipc/cuda/gpu_survey.h"
#include "ipc/cuda/trial_allocation.h"

namespace baton::runtime {

// Where the helper finds its control socket.
inline constexpr int kConfirmSocketFd = 3;

// Answers each `confirm` with a `verdict` and each `survey` with a `surveyed` of
// the same call, in order, until the supervisor is gone or talks nonsense;
// returns which. Between an answer and the next question it holds no descriptor
// of an arena and no device context. NVML and the driver are loaded by the
// first question that is about a GPU.
absl::Status AnswerConfirmations(ipc::ControlSocket& supervisor, ipc::cuda::GpuSource& gpus,
                                 ipc::cuda::TrialAllocator& allocator);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_CONFIRMATION_H_

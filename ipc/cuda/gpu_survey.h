// What NVML says of one GPU at one moment: memory, processes, MIG. Plain
// values, so that whoever concludes something from them can be tested without
// a driver.
//
// Thread safety: a GpuSurvey is a value; a GpuSource belongs to one thread at a
// time. NvmlSource may hang for as long as the driver likes (see nvml.h).
#ifndef BATON_IPC_CUDA_GPU_SURVEY_H_
#define BATON_IPC_CUDA_GPU_SURVEY_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"

#include "ipc/cuda/driver_abi.h"

namespace baton::ipc::cuda {

// Each part is known or says why it is not; none is ever filled in by a guess.
struct GpuSurvey {
  struct Memory {
    uint64_t total_bytes = 0;
    // May rise before the driver has scrubbed what it counts.
    uint64_t free_bytes = 0;
  };
  struct Process {
    pid_t pid = 0;
    std::optional<uint64_t> bytes;  // nullopt: NVML does not say
  };

  // The whole GPU's: of a MIG instance it says nothing.
  absl::StatusOr<Memory> memory;
  // Those with a context that this process may see. Others, of other pid
  // namespaces, are left out without a word.
  absl::StatusOr<std::vector<Process>> processes;
  absl::StatusOr<bool> mig;
};

// The entry of `pid`; null where there is none or nothing is known.
const GpuSurvey::Process* FindProcess(const GpuSurvey& survey, pid_t pid);

// A survey in which nothing is known, for one reason.
GpuSurvey UnknownSurvey(const absl::Status& why);

class GpuSource {
 public:
  virtual ~GpuSource() = default;
  virtual GpuSurvey Survey(const Uuid& device) = 0;
};

// NVML of this process.
class NvmlSource final : public GpuSource {
 public:
  GpuSurvey Survey(const Uuid& device) override;
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_GPU_SURVEY_H_

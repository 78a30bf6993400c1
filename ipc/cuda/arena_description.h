// What kind of arena an export is of, and where it lies: what the supervisor
// has to know to have its end confirmed.
//
// Thread safety: a pure function.
#ifndef BATON_IPC_CUDA_ARENA_DESCRIPTION_H_
#define BATON_IPC_CUDA_ARENA_DESCRIPTION_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/statusor.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/device.h"

namespace baton::ipc::cuda {

struct ArenaDescription {
  enum class Kind {
    kHost,  // a memfd: the kernel counts it
    kCuda,  // on a GPU: the driver does
  };
  Kind kind = Kind::kHost;
  Uuid device{};    // kCuda
  pid_t owner = 0;  // kCuda: as the worker says; of its own pid namespace
  uint64_t bytes = 0;
};

// By the export's token, which another process wrote. INVALID_ARGUMENT for one
// that is none.
absl::StatusOr<ArenaDescription> DescribeArena(const ArenaExport& arena);

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_ARENA_DESCRIPTION_H_

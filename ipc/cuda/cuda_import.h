// A worker's arena on a GPU, opened in a front.
#ifndef BATON_IPC_CUDA_CUDA_IMPORT_H_
#define BATON_IPC_CUDA_CUDA_IMPORT_H_

#include <memory>

#include "absl/status/statusor.h"

#include "ipc/device.h"

namespace baton::ipc::cuda {

// Finds the GPU by the token's UUID, and opens the arena there for reading (by
// CUDA IPC nothing keeps anybody from writing; a descriptor's mapping cannot,
// before AllowWrites).
// The context that this needs is made once in a process and kept. Closing and
// opening may take milliseconds, or hang with the driver: not on a thread that
// serves anybody.
// Thread safety: any thread; the arena belongs to one thread at a time.
absl::StatusOr<std::unique_ptr<ImportedArena>> ImportCudaArena(ArenaExport arena);

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_CUDA_IMPORT_H_

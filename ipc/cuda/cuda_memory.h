// Device memory of this process that others can open.
//
// Thread safety: none; each object belongs to one thread at a time, on which
// the context is current.
#ifndef BATON_IPC_CUDA_CUDA_MEMORY_H_
#define BATON_IPC_CUDA_CUDA_MEMORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

#include "ipc/cuda/arena_token.h"
#include "ipc/cuda/cuda_context.h"
#include "ipc/unique_fd.h"

namespace baton::ipc::cuda {

// What the driver hands out, and what an exported slab has to be a multiple
// of: a handle names a whole one.
inline constexpr uint64_t kSlabBytes = 2 << 20;

constexpr uint64_t RoundUpToSlabs(uint64_t bytes) {
  return (bytes + kSlabBytes - 1) / kSlabBytes * kSlabBytes;
}

// One allocation, freed by the destructor: with kIpc freed whoever has it open,
// so importers close first.
class CudaMemory {
 public:
  virtual ~CudaMemory() = default;
  virtual DevicePtr address() const = 0;
  virtual uint64_t bytes() const = 0;
  virtual Transport transport() const = 0;

  struct Export {
    std::optional<IpcMemHandle> handle;  // kIpc
    UniqueFd fd;                         // kVmm
  };
  virtual absl::StatusOr<Export> Share() const = 0;
};

// `bytes` is rounded up to slabs; the memory is not cleared. RESOURCE_EXHAUSTED
// says how much is free.
absl::StatusOr<std::unique_ptr<CudaMemory>> AllocateCudaMemory(
    std::shared_ptr<const CudaContext> context, uint64_t bytes, Transport transport);

// Another process's memory, opened here; closed by the destructor.
class ImportedCudaMemory {
 public:
  virtual ~ImportedCudaMemory() = default;
  virtual DevicePtr address() const = 0;
  virtual uint64_t bytes() const = 0;
  // All of it can be written from now on. With kIpc it always could.
  virtual absl::Status AllowWrites() { return absl::OkStatus(); }
};

// `fd` with kVmm; closed in any case. What was opened is checked to have the
// token's size. With kVmm the memory cannot be written through it, unless
// `writable`, or AllowWrites has made it so.
absl::StatusOr<std::unique_ptr<ImportedCudaMemory>> OpenCudaMemory(
    std::shared_ptr<const CudaContext> context, const ArenaToken& token, UniqueFd fd,
    bool writable);

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_CUDA_MEMORY_H_

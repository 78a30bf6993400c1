#include "ipc/cuda/cuda_import.h"

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/arena_token.h"
#include "ipc/cuda/cuda_context.h"
#include "ipc/cuda/cuda_memory.h"

namespace baton::ipc::cuda {
namespace {

// The context of this process on each GPU that it has imported from.
absl::StatusOr<std::shared_ptr<const CudaContext>> KeptContext(const Uuid& uuid) {
  using Key = std::array<unsigned char, sizeof(Uuid)>;
  // Never destroyed: at exit the driver may have gone before.
  static auto& mutex = *new std::mutex;
  static auto& contexts = *new std::map<Key, std::shared_ptr<const CudaContext>>;
  const std::lock_guard lock(mutex);
  std::shared_ptr<const CudaContext>& kept = contexts[std::to_array(uuid.bytes)];
  if (kept == nullptr) {
    const absl::StatusOr<GpuInfo> gpu = FindGpu(uuid);
    if (!gpu.ok()) return gpu.status();
    absl::StatusOr<std::shared_ptr<const CudaContext>> context = CudaContext::Open(*gpu);
    if (!context.ok()) return context.status();
    kept = *std::move(context);
  }
  return kept;
}

class ImportedCudaArena final : public ImportedArena {
 public:
  ImportedCudaArena(std::unique_ptr<ImportedCudaMemory> memory, uint32_t ordinal,
                    uint64_t generation)
      : memory_(std::move(memory)), ordinal_(ordinal), generation_(generation) {}

  std::span<const std::byte> bytes() const override { return {}; }
  uint64_t device_address() const override { return memory_->address(); }
  int device_ordinal() const override { return static_cast<int>(ordinal_); }
  uint64_t size_bytes() const override { return memory_->bytes(); }
  uint64_t generation() const override { return generation_; }
  bool closing_may_hang() const override { return true; }

 private:
  const std::unique_ptr<ImportedCudaMemory> memory_;
  const uint32_t ordinal_;
  const uint64_t generation_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ImportedArena>> ImportCudaArena(ArenaExport arena) {
  const std::string what = absl::StrCat("the device arena of generation ", arena.generation, ": ");
  const absl::StatusOr<ArenaToken> token = ParseArenaToken(arena.token);
  if (!token.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(what, std::string(token.status().message())));
  }
  if (token->bytes != arena.bytes || token->generation != arena.generation) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, arena.bytes, " bytes were announced, its handle says ", token->bytes,
                     " of generation ", token->generation));
  }
  const absl::StatusOr<std::shared_ptr<const CudaContext>> context =
      KeptContext(token->device_uuid);
  if (!context.ok()) return context.status();
  absl::StatusOr<std::unique_ptr<ImportedCudaMemory>> memory =
      OpenCudaMemory(*context, *token, std::move(arena.fd), /*writable=*/false);
  if (!memory.ok()) {
    return absl::Status(memory.status().code(),
                        absl::StrCat(what, std::string(memory.status().message())));
  }
  return std::make_unique<ImportedCudaArena>(*std::move(memory), (*context)->gpu().ordinal,
                                             arena.generation);
}

}  // namespace baton::ipc::cuda

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
  ImportedCudaArena(std::shared_ptr<const CudaContext> context,
                    std::unique_ptr<ImportedCudaMemory> memory, uint64_t generation)
      : context_(std::move(context)), memory_(std::move(memory)), generation_(generation) {}
  ~ImportedCudaArena() override {
    if (stream_ == nullptr) return;
    static_cast<void>(context_->MakeCurrent());
    static_cast<void>(context_->driver()->StreamDestroy(stream_));
  }

  std::span<const std::byte> bytes() const override { return {}; }
  uint64_t device_address() const override { return memory_->address(); }
  int device_ordinal() const override { return static_cast<int>(context_->gpu().ordinal); }
  uint64_t size_bytes() const override { return memory_->bytes(); }
  uint64_t generation() const override { return generation_; }
  bool closing_may_hang() const override { return true; }
  absl::Status AllowWrites(uint64_t offset, uint64_t bytes) override;
  absl::Status CopyOut(std::span<std::byte> to, uint64_t offset) override;
  absl::Status CopyIn(uint64_t offset, std::span<const std::byte> from) override;

 private:
  absl::Status CheckInside(uint64_t offset, uint64_t bytes) const;
  // Makes the context current, and a stream where there is none yet.
  absl::Status Prepare();
  absl::Status Synchronize() const {
    const Driver& driver = context_->driver();
    return driver.ToStatus(driver->StreamSynchronize(stream_), "cuStreamSynchronize");
  }

  const std::shared_ptr<const CudaContext> context_;
  const std::unique_ptr<ImportedCudaMemory> memory_;
  const uint64_t generation_;
  // Of its own: the default one would wait for what the service computes.
  Stream stream_ = nullptr;
};

absl::Status ImportedCudaArena::CheckInside(uint64_t offset, uint64_t bytes) const {
  if (offset <= size_bytes() && bytes <= size_bytes() - offset) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(bytes, " bytes at ", offset,
                                                 " are outside the device arena of generation ",
                                                 generation_, ", which has ", size_bytes()));
}

absl::Status ImportedCudaArena::Prepare() {
  if (absl::Status current = context_->MakeCurrent(); !current.ok()) return current;
  if (stream_ != nullptr) return absl::OkStatus();
  const Driver& driver = context_->driver();
  return driver.ToStatus(driver->StreamCreate(&stream_, kStreamNonBlocking), "cuStreamCreate");
}

absl::Status ImportedCudaArena::AllowWrites(uint64_t offset, uint64_t bytes) {
  if (absl::Status inside = CheckInside(offset, bytes); !inside.ok()) return inside;
  return memory_->AllowWrites();
}

absl::Status ImportedCudaArena::CopyOut(std::span<std::byte> to, uint64_t offset) {
  absl::Status status = CheckInside(offset, to.size());
  if (status.ok()) status = Prepare();
  if (!status.ok() || to.empty()) return status;
  const Driver& driver = context_->driver();
  status = driver.ToStatus(
      driver->MemcpyDtoHAsync(to.data(), memory_->address() + offset, to.size(), stream_),
      "cuMemcpyDtoHAsync");
  // Also after an error: nothing may write to `to` when we have returned.
  status.Update(Synchronize());
  return status;
}

absl::Status ImportedCudaArena::CopyIn(uint64_t offset, std::span<const std::byte> from) {
  absl::Status status = CheckInside(offset, from.size());
  if (status.ok()) status = Prepare();
  if (!status.ok() || from.empty()) return status;
  const Driver& driver = context_->driver();
  status = driver.ToStatus(
      driver->MemcpyHtoDAsync(memory_->address() + offset, from.data(), from.size(), stream_),
      "cuMemcpyHtoDAsync");
  // A plain copy may return before the bytes are there for another process.
  status.Update(Synchronize());
  return status;
}

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
  return std::make_unique<ImportedCudaArena>(*context, *std::move(memory), arena.generation);
}

}  // namespace baton::ipc::cuda

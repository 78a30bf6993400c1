// The device `cuda:N` as its owner, a worker, has it.
//
// Thread safety: one thread at a time (the serving thread), which the context
// is made current to by Open; to others by MakeCurrent, which any may call.
#ifndef BATON_IPC_CUDA_CUDA_DEVICE_H_
#define BATON_IPC_CUDA_CUDA_DEVICE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "ipc/cuda/cuda_context.h"
#include "ipc/cuda/cuda_memory.h"
#include "ipc/cuda/upload_ring.h"
#include "ipc/device.h"

namespace baton::ipc::cuda {

struct CudaDeviceOptions {
  uint64_t capacity_bytes = 0;         // what the supervisor admitted
  std::optional<Transport> transport;  // nullopt: by what the GPU can do
  UploadOptions upload;
};

// What is chosen where nothing was asked for: CUDA IPC, which every importer
// can open, else descriptors. UNIMPLEMENTED where the GPU has neither (MIG,
// some vGPUs), or not what was asked for.
absl::StatusOr<Transport> ChooseTransport(const GpuInfo& gpu, std::optional<Transport> asked);

class CudaDevice final : public Device {
 public:
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open(const GpuInfo& gpu,
                                                          const CudaDeviceOptions& options);
  ~CudaDevice() override;

  std::string_view name() const override { return name_; }
  absl::StatusOr<std::unique_ptr<DeviceArena>> CreateArena(uint64_t bytes,
                                                           uint64_t generation) override;
  absl::Status CopyToDevice(uint64_t to_address, std::span<const std::byte> from) override;
  absl::Status CopyFileToDevice(uint64_t to_address, int fd, uint64_t offset,
                                uint64_t bytes) override;
  absl::Status CopyFromDevice(std::span<std::byte> to, uint64_t from_address) override;
  void UploadDone() override { ring_.reset(); }
  absl::StatusOr<std::unique_ptr<HostRegistration>> RegisterHostMemory(
      std::span<const std::byte> memory, bool writable) override;

  absl::Status MakeCurrent() const override { return context_->MakeCurrent(); }

  const std::shared_ptr<const CudaContext>& context() const { return context_; }
  // Work of the model is ordered on this one.
  Stream stream() const { return stream_; }
  absl::Status Synchronize() const;

 private:
  friend class CudaArena;
  // The arenas that this device has given out, shared with them.
  struct Ledger {
    uint64_t capacity = 0;
    uint64_t used = 0;
    std::map<uint64_t, uint64_t> bytes_by_address;
  };

  CudaDevice(std::shared_ptr<const CudaContext> context, Transport transport,
             const CudaDeviceOptions& options);
  absl::Status CheckInside(uint64_t address, uint64_t bytes) const;
  absl::Status Upload(uint64_t to_address, uint64_t bytes, const UploadRing::Fill& fill);

  const std::string name_;
  const std::shared_ptr<const CudaContext> context_;
  const Transport transport_;
  const UploadOptions upload_options_;
  const std::shared_ptr<Ledger> ledger_;
  Stream stream_ = nullptr;
  std::unique_ptr<UploadRing> ring_;  // from the first large copy to UploadDone
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_CUDA_DEVICE_H_

#include "ipc/cuda/cuda_memory.h"

#include <fcntl.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::ipc::cuda {
namespace {

absl::Status OutOfMemory(const CudaContext& context, uint64_t bytes, const absl::Status& why) {
  size_t free = 0;
  size_t total = 0;
  if (!absl::IsResourceExhausted(why) || context.driver()->MemGetInfo(&free, &total) != kSuccess) {
    return why;
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "a device arena of ", bytes, " bytes does not fit on cuda:", context.gpu().ordinal, ": ",
      free, " of ", total, " bytes are free. See nvidia-smi for who uses the rest (",
      std::string(why.message()), ")"));
}

AllocationProp VmmProp(const CudaContext& context) {
  AllocationProp prop{};
  prop.type = kAllocationTypePinned;
  prop.requested_handle_types = kHandleTypePosixFd;
  prop.location = {.type = kLocationTypeDevice, .id = context.gpu().device};
  return prop;
}

// A range of addresses with VMM memory behind it.
class VmmMapping {
 public:
  static absl::StatusOr<std::unique_ptr<VmmMapping>> Map(std::shared_ptr<const CudaContext> context,
                                                         AllocationHandle handle, uint64_t bytes,
                                                         int access) {
    const Driver& driver = context->driver();
    std::unique_ptr<VmmMapping> mapping(new VmmMapping(std::move(context), bytes));
    absl::Status status =
        driver.ToStatus(driver->MemAddressReserve(&mapping->address_, bytes, kSlabBytes, 0, 0),
                        "cuMemAddressReserve");
    if (!status.ok()) return status;
    status = driver.ToStatus(driver->MemMap(mapping->address_, bytes, 0, handle, 0), "cuMemMap");
    if (!status.ok()) return status;
    mapping->mapped_ = true;
    status = mapping->SetAccess(access);
    if (!status.ok()) return status;
    return mapping;
  }
  // Of all of it: the driver changes whole allocations only.
  absl::Status SetAccess(int access) const {
    const AccessDesc desc{.location = {.type = kLocationTypeDevice, .id = context_->gpu().device},
                          .flags = access};
    const Driver& driver = context_->driver();
    return driver.ToStatus(driver->MemSetAccess(address_, bytes_, &desc, 1), "cuMemSetAccess");
  }
  ~VmmMapping() {
    const Driver& driver = context_->driver();
    if (mapped_) static_cast<void>(driver->MemUnmap(address_, bytes_));
    if (address_ != 0) static_cast<void>(driver->MemAddressFree(address_, bytes_));
  }
  VmmMapping(const VmmMapping&) = delete;
  VmmMapping& operator=(const VmmMapping&) = delete;

  DevicePtr address() const { return address_; }
  uint64_t bytes() const { return bytes_; }

 private:
  VmmMapping(std::shared_ptr<const CudaContext> context, uint64_t bytes)
      : context_(std::move(context)), bytes_(bytes) {}

  const std::shared_ptr<const CudaContext> context_;
  const uint64_t bytes_;
  DevicePtr address_ = 0;
  bool mapped_ = false;
};

class IpcMemory final : public CudaMemory {
 public:
  IpcMemory(std::shared_ptr<const CudaContext> context, DevicePtr address, uint64_t bytes)
      : context_(std::move(context)), address_(address), bytes_(bytes) {}
  ~IpcMemory() override { static_cast<void>(context_->driver()->MemFree(address_)); }

  DevicePtr address() const override { return address_; }
  uint64_t bytes() const override { return bytes_; }
  Transport transport() const override { return Transport::kIpc; }
  absl::StatusOr<Export> Share() const override {
    const Driver& driver = context_->driver();
    Export exported;
    absl::Status status = driver.ToStatus(
        driver->IpcGetMemHandle(&exported.handle.emplace(), address_), "cuIpcGetMemHandle");
    if (!status.ok()) return status;
    return exported;
  }

 private:
  const std::shared_ptr<const CudaContext> context_;
  const DevicePtr address_;
  const uint64_t bytes_;
};

class VmmMemory final : public CudaMemory {
 public:
  VmmMemory(std::shared_ptr<const CudaContext> context, AllocationHandle handle,
            std::unique_ptr<VmmMapping> mapping)
      : context_(std::move(context)), handle_(handle), mapping_(std::move(mapping)) {}
  ~VmmMemory() override {
    mapping_.reset();
    static_cast<void>(context_->driver()->MemRelease(handle_));
  }

  DevicePtr address() const override { return mapping_->address(); }
  uint64_t bytes() const override { return mapping_->bytes(); }
  Transport transport() const override { return Transport::kVmm; }
  absl::StatusOr<Export> Share() const override {
    const Driver& driver = context_->driver();
    int fd = -1;
    absl::Status status =
        driver.ToStatus(driver->MemExportToShareableHandle(&fd, handle_, kHandleTypePosixFd, 0),
                        "cuMemExportToShareableHandle");
    if (!status.ok()) return status;
    Export exported;
    exported.fd.reset(fd);
    // The driver does not say whether it has done so.
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return absl::ErrnoToStatus(errno, "the descriptor of exported device memory");
    }
    return exported;
  }

 private:
  const std::shared_ptr<const CudaContext> context_;
  const AllocationHandle handle_;
  std::unique_ptr<VmmMapping> mapping_;
};

class OpenedIpcMemory final : public ImportedCudaMemory {
 public:
  OpenedIpcMemory(std::shared_ptr<const CudaContext> context, DevicePtr opened)
      : context_(std::move(context)), opened_(opened) {}
  ~OpenedIpcMemory() override {
    // Whoever lets go of it may be another thread than the one that opened it.
    static_cast<void>(context_->MakeCurrent());
    static_cast<void>(context_->driver()->IpcCloseMemHandle(opened_));
  }
  DevicePtr address() const override { return opened_ + base_offset; }
  uint64_t bytes() const override { return size; }

  uint64_t base_offset = 0;
  uint64_t size = 0;

 private:
  const std::shared_ptr<const CudaContext> context_;
  const DevicePtr opened_;
};

class OpenedVmmMemory final : public ImportedCudaMemory {
 public:
  OpenedVmmMemory(std::shared_ptr<const CudaContext> context, std::unique_ptr<VmmMapping> mapping)
      : context_(std::move(context)), mapping_(std::move(mapping)) {}
  ~OpenedVmmMemory() override {
    static_cast<void>(context_->MakeCurrent());
    mapping_.reset();
  }
  DevicePtr address() const override { return mapping_->address(); }
  uint64_t bytes() const override { return mapping_->bytes(); }
  absl::Status AllowWrites() override {
    if (absl::Status current = context_->MakeCurrent(); !current.ok()) return current;
    return mapping_->SetAccess(kAccessReadWrite);
  }

 private:
  const std::shared_ptr<const CudaContext> context_;
  std::unique_ptr<VmmMapping> mapping_;
};

absl::StatusOr<std::unique_ptr<CudaMemory>> AllocateVmm(std::shared_ptr<const CudaContext> context,
                                                        uint64_t bytes) {
  const Driver& driver = context->driver();
  const AllocationProp prop = VmmProp(*context);
  size_t granularity = 0;
  absl::Status status = driver.ToStatus(
      driver->MemGetAllocationGranularity(&granularity, &prop, kGranularityRecommended),
      "cuMemGetAllocationGranularity");
  if (!status.ok()) return status;
  if (granularity == 0 || kSlabBytes % granularity != 0) {
    return absl::UnimplementedError(
        absl::StrCat("cuda:", context->gpu().ordinal, " allocates in steps of ", granularity,
                     " bytes, which Baton does not know: use device_transport: ipc"));
  }
  AllocationHandle handle = 0;
  status = driver.ToStatus(driver->MemCreate(&handle, bytes, &prop, 0), "cuMemCreate");
  if (!status.ok()) return OutOfMemory(*context, bytes, status);
  absl::StatusOr<std::unique_ptr<VmmMapping>> mapping =
      VmmMapping::Map(context, handle, bytes, kAccessReadWrite);
  if (!mapping.ok()) {
    static_cast<void>(driver->MemRelease(handle));
    return mapping.status();
  }
  return std::make_unique<VmmMemory>(std::move(context), handle, *std::move(mapping));
}

absl::StatusOr<std::unique_ptr<ImportedCudaMemory>> OpenIpc(
    std::shared_ptr<const CudaContext> context, const ArenaToken& token) {
  if (!token.handle) {
    return absl::InvalidArgumentError("the device handle has no handle in it");
  }
  const Driver& driver = context->driver();
  DevicePtr opened = 0;
  absl::Status status = driver.ToStatus(
      driver->IpcOpenMemHandle(&opened, *token.handle, kIpcLazyEnablePeerAccess),
      absl::StrCat("cannot open the device memory of process ", token.owner.pid,
                   " (is it in another pid namespace, or on another MIG instance?)"));
  if (!status.ok()) return status;
  auto memory = std::make_unique<OpenedIpcMemory>(context, opened);
  // Another allocation than the one that was meant, or a handle that lies.
  DevicePtr base = 0;
  size_t size = 0;
  status =
      driver.ToStatus(driver->MemGetAddressRange(&base, &size, opened), "cuMemGetAddressRange");
  if (!status.ok()) return status;
  if (token.base_offset > size || token.bytes > size - token.base_offset) {
    return absl::InvalidArgumentError(absl::StrCat("the device memory of process ", token.owner.pid,
                                                   " has ", size, " bytes; ", token.bytes, " at ",
                                                   token.base_offset, " were announced"));
  }
  memory->base_offset = token.base_offset;
  memory->size = token.bytes;
  return memory;
}

absl::StatusOr<std::unique_ptr<ImportedCudaMemory>> OpenVmm(
    std::shared_ptr<const CudaContext> context, const ArenaToken& token, UniqueFd fd,
    bool writable) {
  if (!fd) return absl::InvalidArgumentError("the device memory came without its descriptor");
  const Driver& driver = context->driver();
  AllocationHandle handle = 0;
  absl::Status status = driver.ToStatus(
      driver->MemImportFromShareableHandle(
          &handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd.get())), kHandleTypePosixFd),
      absl::StrCat("cannot open the device memory of process ", token.owner.pid));
  if (!status.ok()) return status;
  fd.reset();  // it would keep the memory
  // A mapping beyond the allocation is refused, so this checks the size.
  absl::StatusOr<std::unique_ptr<VmmMapping>> mapping =
      VmmMapping::Map(context, handle, token.bytes, writable ? kAccessReadWrite : kAccessRead);
  // The mapping keeps it.
  static_cast<void>(driver->MemRelease(handle));
  if (!mapping.ok()) return mapping.status();
  return std::make_unique<OpenedVmmMemory>(std::move(context), *std::move(mapping));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaMemory>> AllocateCudaMemory(
    std::shared_ptr<const CudaContext> context, uint64_t bytes, Transport transport) {
  const uint64_t size = RoundUpToSlabs(bytes);
  if (transport == Transport::kVmm) return AllocateVmm(std::move(context), size);
  const Driver& driver = context->driver();
  DevicePtr address = 0;
  absl::Status status = driver.ToStatus(driver->MemAlloc(&address, size), "cuMemAlloc");
  if (!status.ok()) return OutOfMemory(*context, size, status);
  auto memory = std::make_unique<IpcMemory>(std::move(context), address, size);
  int capable = 0;
  status = driver.ToStatus(
      driver->PointerGetAttribute(&capable, kPointerAttributeLegacyIpcCapable, address),
      "cuPointerGetAttribute");
  if (!status.ok()) return status;
  if (capable == 0) {
    return absl::UnimplementedError(
        "this GPU's memory cannot be shared by CUDA IPC: use device_transport: vmm");
  }
  return memory;
}

absl::StatusOr<std::unique_ptr<ImportedCudaMemory>> OpenCudaMemory(
    std::shared_ptr<const CudaContext> context, const ArenaToken& token, UniqueFd fd,
    bool writable) {
  absl::Status current = context->MakeCurrent();
  if (!current.ok()) return current;
  if (token.transport == Transport::kVmm) {
    return OpenVmm(std::move(context), token, std::move(fd), writable);
  }
  return OpenIpc(std::move(context), token);
}

}  // namespace baton::ipc::cuda

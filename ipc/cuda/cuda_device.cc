#include "ipc/cuda/cuda_device.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/process.h"

namespace baton::ipc::cuda {
namespace {

constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 46;
// Below this a ring's threads cost more than they save.
constexpr uint64_t kRingBytes = 8 << 20;

absl::Status ReadAt(int fd, uint64_t offset, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t got = ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "reading weights");
    if (got == 0) return absl::DataLossError("the weights file was cut while it was uploaded");
    offset += static_cast<uint64_t>(got);
    to = to.subspan(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

class Registration final : public HostRegistration {
 public:
  Registration(std::shared_ptr<const CudaContext> context, void* memory)
      : context_(std::move(context)), memory_(memory) {}
  ~Registration() override { static_cast<void>(context_->driver()->MemHostUnregister(memory_)); }

 private:
  const std::shared_ptr<const CudaContext> context_;
  void* const memory_;
};

}  // namespace

absl::StatusOr<Transport> ChooseTransport(const GpuInfo& gpu, std::optional<Transport> asked) {
  const std::string which = absl::StrCat("cuda:", gpu.ordinal, " (", gpu.name, ")");
  if (asked == Transport::kVmm && !gpu.posix_fd) {
    return absl::UnimplementedError(
        absl::StrCat(which, " cannot export memory as a descriptor: use device_transport: auto"));
  }
  if (asked) return *asked;
  if (gpu.legacy_ipc) return Transport::kIpc;
  if (gpu.posix_fd) return Transport::kVmm;
  return absl::UnimplementedError(absl::StrCat(
      which, " can share memory neither by CUDA IPC nor by descriptors (some vGPUs cannot)"));
}

// Defined here: it is of CudaDevice's inside.
class CudaArena final : public DeviceArena {
 public:
  CudaArena(std::shared_ptr<const CudaContext> context, std::unique_ptr<CudaMemory> memory,
            std::shared_ptr<CudaDevice::Ledger> ledger, uint64_t generation)
      : context_(std::move(context)),
        memory_(std::move(memory)),
        ledger_(std::move(ledger)),
        generation_(generation) {
    ledger_->used += memory_->bytes();
    ledger_->bytes_by_address[address()] = bytes();
  }
  ~CudaArena() override {
    ledger_->used -= memory_->bytes();
    ledger_->bytes_by_address.erase(address());
  }

  uint64_t address() const override { return memory_->address(); }
  uint64_t bytes() const override { return memory_->bytes(); }

  absl::Status Scrub() override {
    const Driver& driver = context_->driver();
    absl::Status status =
        driver.ToStatus(driver->MemsetD8(address(), 0, bytes()), "cannot clear a device arena");
    // The driver returns before the device has done it.
    if (status.ok()) status = driver.ToStatus(driver->CtxSynchronize(), "cuCtxSynchronize");
    return status;
  }

  absl::StatusOr<ArenaExport> Export() override {
    const absl::StatusOr<ProcessIdentity> self = ProcessIdentity::Of(::getpid());
    if (!self.ok()) return self.status();
    absl::StatusOr<CudaMemory::Export> shared = memory_->Share();
    if (!shared.ok()) return shared.status();
    return ArenaExport{.fd = std::move(shared->fd),
                       .token = EncodeArenaToken({.transport = memory_->transport(),
                                                  .handle = shared->handle,
                                                  .base_offset = 0,
                                                  .bytes = bytes(),
                                                  .device_uuid = context_->gpu().uuid,
                                                  .ordinal = context_->gpu().ordinal,
                                                  .generation = generation_,
                                                  .owner = *self}),
                       .bytes = bytes(),
                       .generation = generation_};
  }

 private:
  const std::shared_ptr<const CudaContext> context_;
  std::unique_ptr<CudaMemory> memory_;
  const std::shared_ptr<CudaDevice::Ledger> ledger_;
  const uint64_t generation_;
};

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open(const GpuInfo& gpu,
                                                             const CudaDeviceOptions& options) {
  const absl::StatusOr<Transport> transport = ChooseTransport(gpu, options.transport);
  if (!transport.ok()) return transport.status();
  absl::StatusOr<std::shared_ptr<const CudaContext>> context = CudaContext::Open(gpu);
  if (!context.ok()) return context.status();
  std::unique_ptr<CudaDevice> device(new CudaDevice(*std::move(context), *transport, options));
  const Driver& driver = device->context_->driver();
  absl::Status status =
      driver.ToStatus(driver->StreamCreate(&device->stream_, kStreamNonBlocking), "cuStreamCreate");
  if (!status.ok()) return status;
  return device;
}

CudaDevice::CudaDevice(std::shared_ptr<const CudaContext> context, Transport transport,
                       const CudaDeviceOptions& options)
    : name_(absl::StrCat("cuda:", context->gpu().ordinal)),
      context_(std::move(context)),
      transport_(transport),
      upload_options_(options.upload),
      ledger_(std::make_shared<Ledger>()) {
  ledger_->capacity = options.capacity_bytes;
}

CudaDevice::~CudaDevice() {
  if (stream_ != nullptr) static_cast<void>(context_->driver()->StreamDestroy(stream_));
}

absl::StatusOr<std::unique_ptr<DeviceArena>> CudaDevice::CreateArena(uint64_t bytes,
                                                                     uint64_t generation) {
  if (bytes == 0 || bytes > kMaxArenaBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a device arena of ", bytes, " bytes: must be 1 byte to 64 TiB"));
  }
  const uint64_t left = ledger_->capacity - ledger_->used;
  if (RoundUpToSlabs(bytes) > left) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a device arena of ", RoundUpToSlabs(bytes), " bytes does not fit: ", left,
                     " of the ", ledger_->capacity, " bytes admitted on device ", name_,
                     " are left. Raise the device capacity, or serve a smaller model"));
  }
  absl::StatusOr<std::unique_ptr<CudaMemory>> memory =
      AllocateCudaMemory(context_, bytes, transport_);
  if (!memory.ok()) return memory.status();
  const Driver& driver = context_->driver();
  absl::Status cleared = driver.ToStatus(
      driver->MemsetD8Async((*memory)->address(), 0, (*memory)->bytes(), stream_), "cuMemsetD8");
  if (cleared.ok()) cleared = Synchronize();
  if (!cleared.ok()) return cleared;
  return std::make_unique<CudaArena>(context_, *std::move(memory), ledger_, generation);
}

absl::Status CudaDevice::CheckInside(uint64_t address, uint64_t bytes) const {
  const auto after = ledger_->bytes_by_address.upper_bound(address);
  if (after != ledger_->bytes_by_address.begin()) {
    const auto& [base, size] = *std::prev(after);
    if (address - base <= size && bytes <= size - (address - base)) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("a copy of ", bytes, " bytes on device ", name_,
                                                 " does not stay inside an arena"));
}

absl::Status CudaDevice::Upload(uint64_t to_address, uint64_t bytes, const UploadRing::Fill& fill) {
  absl::Status inside = CheckInside(to_address, bytes);
  if (!inside.ok()) return inside;
  if (ring_ == nullptr) {
    absl::StatusOr<std::unique_ptr<UploadRing>> ring =
        UploadRing::Create(context_, upload_options_);
    if (!ring.ok()) return ring.status();
    ring_ = *std::move(ring);
  }
  return ring_->Upload(to_address, bytes, fill);
}

absl::Status CudaDevice::CopyToDevice(uint64_t to_address, std::span<const std::byte> from) {
  if (from.empty()) return CheckInside(to_address, 0);
  if (from.size() >= kRingBytes) {
    return Upload(to_address, from.size(), [from](uint64_t offset, std::span<std::byte> to) {
      std::memcpy(to.data(), from.data() + offset, to.size());
      return absl::OkStatus();
    });
  }
  absl::Status inside = CheckInside(to_address, from.size());
  if (!inside.ok()) return inside;
  const Driver& driver = context_->driver();
  return driver.ToStatus(driver->MemcpyHtoD(to_address, from.data(), from.size()), "cuMemcpyHtoD");
}

absl::Status CudaDevice::CopyFileToDevice(uint64_t to_address, int fd, uint64_t offset,
                                          uint64_t bytes) {
  if (bytes == 0) return CheckInside(to_address, 0);
  return Upload(to_address, bytes, [fd, offset](uint64_t at, std::span<std::byte> to) {
    return ReadAt(fd, offset + at, to);
  });
}

absl::Status CudaDevice::CopyFromDevice(std::span<std::byte> to, uint64_t from_address) {
  absl::Status inside = CheckInside(from_address, to.size());
  if (!inside.ok() || to.empty()) return inside;
  const Driver& driver = context_->driver();
  return driver.ToStatus(driver->MemcpyDtoH(to.data(), from_address, to.size()), "cuMemcpyDtoH");
}

absl::StatusOr<std::unique_ptr<HostRegistration>> CudaDevice::RegisterHostMemory(
    std::span<const std::byte> memory, bool writable) {
  const Driver& driver = context_->driver();
  void* const start = const_cast<std::byte*>(memory.data());
  const unsigned flags = kHostRegisterPortable | (writable ? 0 : kHostRegisterReadOnly);
  absl::Status status =
      driver.ToStatus(driver->MemHostRegister(start, memory.size(), flags),
                      absl::StrCat("cannot register ", memory.size(), " bytes of host memory"));
  if (!status.ok()) return status;
  return std::make_unique<Registration>(context_, start);
}

absl::Status CudaDevice::Synchronize() const {
  const Driver& driver = context_->driver();
  return driver.ToStatus(driver->StreamSynchronize(stream_), "cuStreamSynchronize");
}

}  // namespace baton::ipc::cuda

#include "ipc/cuda/cuda_context.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/nvml.h"

namespace baton::ipc::cuda {
namespace {

absl::StatusOr<int> Attribute(const Driver& driver, DeviceOrdinal device, int attribute) {
  int value = 0;
  absl::Status status = driver.ToStatus(driver->DeviceGetAttribute(&value, attribute, device),
                                        absl::StrCat("cuDeviceGetAttribute(", attribute, ")"));
  if (!status.ok()) return status;
  return value;
}

absl::StatusOr<int> DeviceCount(const Driver& driver) {
  int count = 0;
  absl::Status status = driver.ToStatus(driver->DeviceGetCount(&count), "cuDeviceGetCount");
  if (!status.ok()) return status;
  return count;
}

absl::StatusOr<GpuInfo> Describe(const Driver& driver, uint32_t ordinal) {
  GpuInfo gpu;
  gpu.ordinal = ordinal;
  const std::string which = absl::StrCat("cuda:", ordinal);
  absl::Status status =
      driver.ToStatus(driver->DeviceGet(&gpu.device, static_cast<int>(ordinal)), which);
  if (!status.ok()) return status;
  char name[256] = {};
  status = driver.ToStatus(driver->DeviceGetName(name, sizeof(name) - 1, gpu.device), which);
  if (!status.ok()) return status;
  gpu.name = name;
  status = driver.ToStatus(driver->DeviceGetUuid(&gpu.uuid, gpu.device), which);
  if (!status.ok()) return status;
  size_t bytes = 0;
  status = driver.ToStatus(driver->DeviceTotalMem(&bytes, gpu.device), which);
  if (!status.ok()) return status;
  gpu.total_bytes = bytes;
  const absl::StatusOr<int> vmm = Attribute(driver, gpu.device, kAttributeVmmSupported);
  if (!vmm.ok()) return vmm.status();
  const absl::StatusOr<int> posix_fd = Attribute(driver, gpu.device, kAttributePosixFdSupported);
  if (!posix_fd.ok()) return posix_fd.status();
  gpu.posix_fd = *vmm != 0 && *posix_fd != 0;
  // The driver has no attribute for memory handles; where events can be shared, memory can.
  const absl::StatusOr<int> ipc = Attribute(driver, gpu.device, kAttributeIpcEventSupported);
  gpu.legacy_ipc = ipc.ok() && *ipc != 0;
  return gpu;
}

}  // namespace

absl::StatusOr<GpuInfo> DescribeGpu(uint32_t ordinal) {
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status();
  const absl::StatusOr<int> count = DeviceCount(**driver);
  if (!count.ok()) return count.status();
  if (ordinal >= static_cast<uint32_t>(*count)) {
    return absl::UnavailableError(
        absl::StrCat("there is no device cuda:", ordinal, ": this process may use ", *count, " GPU",
                     *count == 1 ? "" : "s", ", counted from cuda:0 (CUDA_VISIBLE_DEVICES)"));
  }
  return Describe(**driver, ordinal);
}

absl::StatusOr<GpuInfo> FindGpu(const Uuid& uuid) {
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status();
  const absl::StatusOr<int> count = DeviceCount(**driver);
  if (!count.ok()) return count.status();
  for (int ordinal = 0; ordinal < *count; ++ordinal) {
    absl::StatusOr<GpuInfo> gpu = Describe(**driver, static_cast<uint32_t>(ordinal));
    if (!gpu.ok()) return gpu.status();
    if (std::memcmp(gpu->uuid.bytes, uuid.bytes, sizeof(Uuid)) == 0) return gpu;
  }
  return absl::UnavailableError(absl::StrCat(
      UuidText(uuid), " is none of the ", *count,
      " GPUs that this process may use (CUDA_VISIBLE_DEVICES, or a container's --gpus)"));
}

absl::StatusOr<std::shared_ptr<const CudaContext>> CudaContext::Open(const GpuInfo& gpu) {
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status();
  Context context = nullptr;
  absl::Status status =
      (*driver)->ToStatus((**driver)->DevicePrimaryCtxRetain(&context, gpu.device),
                          absl::StrCat("cannot get a context on cuda:", gpu.ordinal));
  if (!status.ok()) return status;
  std::shared_ptr<const CudaContext> opened(new CudaContext(**driver, gpu, context));
  status = opened->MakeCurrent();
  if (!status.ok()) return status;
  return opened;
}

CudaContext::~CudaContext() { static_cast<void>(driver_->DevicePrimaryCtxRelease(gpu_.device)); }

absl::Status CudaContext::MakeCurrent() const {
  return driver_.ToStatus(driver_->CtxSetCurrent(context_), "cuCtxSetCurrent");
}

}  // namespace baton::ipc::cuda

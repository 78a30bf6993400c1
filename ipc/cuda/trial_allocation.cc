#include "ipc/cuda/trial_allocation.h"

#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/driver.h"
#include "ipc/cuda/nvml.h"

namespace baton::ipc::cuda {
namespace {

absl::StatusOr<DeviceOrdinal> FindDevice(const Driver& driver, const Uuid& uuid) {
  int count = 0;
  absl::Status status = driver.ToStatus(driver->DeviceGetCount(&count), "cuDeviceGetCount");
  for (int i = 0; status.ok() && i < count; ++i) {
    DeviceOrdinal device = 0;
    Uuid found{};
    status.Update(driver.ToStatus(driver->DeviceGet(&device, i), "cuDeviceGet"));
    if (status.ok()) {
      status.Update(driver.ToStatus(driver->DeviceGetUuid(&found, device), "cuDeviceGetUuid"));
    }
    if (status.ok() && std::memcmp(found.bytes, uuid.bytes, sizeof(uuid.bytes)) == 0) return device;
  }
  if (!status.ok()) return status;
  return absl::NotFoundError(absl::StrCat("the driver shows no ", UuidText(uuid),
                                          " to this process (", count,
                                          " devices): is CUDA_VISIBLE_DEVICES the worker's?"));
}

// The device's primary context, current to this thread as long as it lasts.
class PrimaryContext {
 public:
  static absl::StatusOr<PrimaryContext> Retain(const Uuid& uuid) {
    const absl::StatusOr<const Driver*> driver = Driver::Get();
    if (!driver.ok()) return driver.status();
    const absl::StatusOr<DeviceOrdinal> device = FindDevice(**driver, uuid);
    if (!device.ok()) return device.status();
    Context context = nullptr;
    absl::Status status = (*driver)->ToStatus((**driver)->DevicePrimaryCtxRetain(&context, *device),
                                              "cuDevicePrimaryCtxRetain");
    if (!status.ok()) return status;
    PrimaryContext retained(*driver, *device);
    status = (*driver)->ToStatus((**driver)->CtxSetCurrent(context), "cuCtxSetCurrent");
    if (!status.ok()) return status;
    return retained;
  }
  PrimaryContext(PrimaryContext&& other) noexcept
      : driver_(std::exchange(other.driver_, nullptr)), device_(other.device_) {}
  PrimaryContext& operator=(PrimaryContext&&) = delete;
  ~PrimaryContext() { Release().IgnoreError(); }

  const Driver& driver() const { return *driver_; }

  absl::Status Release() {
    if (driver_ == nullptr) return absl::OkStatus();
    const Driver& driver = *std::exchange(driver_, nullptr);
    absl::Status status = driver.ToStatus(driver->CtxSetCurrent(nullptr), "cuCtxSetCurrent");
    status.Update(
        driver.ToStatus(driver->DevicePrimaryCtxRelease(device_), "cuDevicePrimaryCtxRelease"));
    return status;
  }

 private:
  PrimaryContext(const Driver* driver, DeviceOrdinal device) : driver_(driver), device_(device) {}

  const Driver* driver_;
  DeviceOrdinal device_;
};

absl::Status AllocateAndFree(const Driver& driver, uint64_t bytes) {
  DevicePtr address = 0;
  absl::Status status =
      driver.ToStatus(driver->MemAlloc(&address, bytes), absl::StrCat("cuMemAlloc(", bytes, ")"));
  if (!status.ok()) return status;
  return driver.ToStatus(driver->MemFree(address), "cuMemFree");
}

}  // namespace

TrialOutcome DriverTrial::Try(const Uuid& device, uint64_t bytes) {
  TrialOutcome outcome{.bytes = bytes, .status = absl::OkStatus()};
  absl::StatusOr<PrimaryContext> context = PrimaryContext::Retain(device);
  if (!context.ok()) {
    outcome.status = context.status();
    return outcome;
  }
  outcome.status = AllocateAndFree(context->driver(), bytes);
  // What does not let go of its context would hold memory that the successor is to have.
  outcome.status.Update(context->Release());
  return outcome;
}

absl::StatusOr<bool> SeesItself(const Uuid& device, GpuSource& source) {
  absl::StatusOr<PrimaryContext> context = PrimaryContext::Retain(device);
  if (!context.ok()) return context.status();
  const GpuSurvey survey = source.Survey(device);
  if (!survey.processes.ok()) return survey.processes.status();
  const bool seen = FindProcess(survey, ::getpid()) != nullptr;
  if (absl::Status released = context->Release(); !released.ok()) return released;
  return seen;
}

}  // namespace baton::ipc::cuda

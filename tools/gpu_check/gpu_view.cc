#include "tools/gpu_check/gpu_view.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tools/gpu_check/samples.h"

namespace baton::gpu_check {
namespace {

constexpr absl::Duration kBetweenLooks = absl::Microseconds(200);
constexpr absl::Duration kSettled = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<GpuView> GpuView::Open(unsigned ordinal) {
  const absl::StatusOr<const ipc::cuda::Driver*> driver = ipc::cuda::Driver::Get();
  if (!driver.ok()) return driver.status();
  const absl::StatusOr<const ipc::cuda::Nvml*> nvml = ipc::cuda::Nvml::Get();
  if (!nvml.ok()) return nvml.status();
  GpuView view(*driver, *nvml);
  ipc::cuda::Uuid uuid{};
  char name[256] = {};
  absl::Status status =
      (*driver)->ToStatus((**driver)->DeviceGet(&view.device_, static_cast<int>(ordinal)),
                          absl::StrCat("cuDeviceGet(", ordinal, ")"));
  if (status.ok()) {
    status = (*driver)->ToStatus((**driver)->DeviceGetUuid(&uuid, view.device_), "cuDeviceGetUuid");
  }
  if (status.ok()) {
    status = (*driver)->ToStatus((**driver)->DeviceGetName(name, sizeof(name), view.device_),
                                 "cuDeviceGetName");
  }
  if (!status.ok()) return status;
  view.name_ = name;
  const absl::StatusOr<ipc::cuda::NvmlDevice> nvml_device = (*nvml)->Find(uuid);
  if (!nvml_device.ok()) return nvml_device.status();
  view.nvml_device_ = *nvml_device;
  return view;
}

absl::StatusOr<uint64_t> GpuView::FreeBytes() const {
  const absl::StatusOr<ipc::cuda::Nvml::Memory> memory = nvml_->MemoryOf(nvml_device_);
  if (!memory.ok()) return memory.status();
  return memory->free_bytes;
}

absl::StatusOr<std::optional<uint64_t>> GpuView::UsedBytesOf(pid_t pid) const {
  const auto uses = nvml_->ProcessesOf(nvml_device_);
  if (!uses.ok()) return uses.status();
  for (const ipc::cuda::Nvml::ProcessUse& use : *uses) {
    if (use.pid == pid) return use.bytes;
  }
  return std::optional<uint64_t>();
}

absl::StatusOr<bool> GpuView::Lists(pid_t pid) const {
  const auto uses = nvml_->ProcessesOf(nvml_device_);
  if (!uses.ok()) return uses.status();
  for (const ipc::cuda::Nvml::ProcessUse& use : *uses) {
    if (use.pid == pid) return true;
  }
  return false;
}

absl::StatusOr<uint64_t> GpuView::SettledFreeBytes(absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  absl::StatusOr<uint64_t> last = FreeBytes();
  absl::Time since = absl::Now();
  while (last.ok() && absl::Now() - since < kSettled) {
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("the device's free memory still changes after ",
                       absl::FormatDuration(timeout), ": is somebody else using it?"));
    }
    absl::SleepFor(absl::Milliseconds(10));
    const absl::StatusOr<uint64_t> now = FreeBytes();
    if (!now.ok() || *now != *last) since = absl::Now();
    last = now;
  }
  return last;
}

absl::StatusOr<double> GpuView::AwaitFree(uint64_t bytes, absl::Duration timeout) const {
  const Stopwatch watch;
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const absl::StatusOr<uint64_t> now = FreeBytes();
    if (!now.ok()) return now.status();
    if (*now >= bytes) return watch.Nanoseconds();
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("after ", absl::FormatDuration(timeout), " ",
                                                      (*now >> 20), " MiB are free, not the ",
                                                      (bytes >> 20), " MiB that were waited for"));
    }
    absl::SleepFor(kBetweenLooks);
  }
}

}  // namespace baton::gpu_check

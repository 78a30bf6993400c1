#include "ipc/cuda/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace baton::ipc::cuda {
namespace {

constexpr char kLibrary[] = "libnvidia-ml.so.1";
// What NVML asks callers to provide for a UUID and for a version.
constexpr unsigned kTextBytes = 96;
// More processes with a context than any device has had.
constexpr size_t kMaxProcesses = 4096;

}  // namespace

std::string UuidText(const Uuid& uuid) {
  std::string text = "GPU-";
  for (size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", uuid.bytes[i]);
    text += digits;
  }
  return text;
}

absl::StatusOr<const Nvml*> Nvml::Get() {
  static const absl::StatusOr<const Nvml*> nvml = Load();
  return nvml;
}

absl::StatusOr<const Nvml*> Nvml::Load() {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);  // never closed
  if (library == nullptr) {
    const char* const why = ::dlerror();
    return absl::NotFoundError(
        absl::StrCat("no NVML (", why == nullptr ? kLibrary : why,
                     "). It comes with the driver; a container gets it with the capability "
                     "'utility' (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"));
  }
  static Nvml nvml;
#define BATON_RESOLVE(member, symbol, result, parameters)                                        \
  nvml.table_.member = reinterpret_cast<decltype(nvml.table_.member)>(::dlsym(library, symbol)); \
  if (nvml.table_.member == nullptr) {                                                           \
    return absl::FailedPreconditionError(                                                        \
        absl::StrCat("NVML lacks ", symbol, ": a driver for CUDA 12 or later is needed"));       \
  }
  BATON_NVML_FUNCTIONS(BATON_RESOLVE)
#undef BATON_RESOLVE
  if (const NvmlResult result = nvml.table_.Init(); result != kNvmlSuccess) {
    return absl::FailedPreconditionError(absl::StrCat(
        std::string(nvml.ToStatus(result, "nvmlInit").message()), ". Does nvidia-smi work here?"));
  }
  return &nvml;
}

absl::Status Nvml::ToStatus(NvmlResult result, std::string_view what) const {
  if (result == kNvmlSuccess) return absl::OkStatus();
  const char* const text = table_.ErrorString(result);
  const std::string message = absl::StrCat(
      std::string(what), ": ", text == nullptr ? "unknown error" : text, " (", result, ")");
  switch (result) {
    case kNvmlInvalidArgument:
      return absl::InvalidArgumentError(message);
    case kNvmlNotSupported:
      return absl::UnimplementedError(message);
    case kNvmlNoPermission:
      return absl::PermissionDeniedError(message);
    case kNvmlNotFound:
      return absl::NotFoundError(message);
    case kNvmlTimeout:
      return absl::DeadlineExceededError(message);
    case kNvmlDriverNotLoaded:
    case kNvmlVersionMismatch:
      return absl::FailedPreconditionError(message);
    case kNvmlGpuIsLost:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<unsigned> Nvml::DeviceCount() const {
  unsigned count = 0;
  absl::Status status = ToStatus(table_.DeviceGetCount(&count), "nvmlDeviceGetCount");
  if (!status.ok()) return status;
  return count;
}

absl::StatusOr<NvmlDevice> Nvml::DeviceAt(unsigned index) const {
  NvmlDevice device = nullptr;
  absl::Status status = ToStatus(table_.DeviceGetHandleByIndex(index, &device),
                                 absl::StrCat("nvmlDeviceGetHandleByIndex(", index, ")"));
  if (!status.ok()) return status;
  return device;
}

absl::StatusOr<NvmlDevice> Nvml::Find(const Uuid& uuid) const {
  const std::string text = UuidText(uuid);
  NvmlDevice device = nullptr;
  absl::Status status = ToStatus(table_.DeviceGetHandleByUuid(text.c_str(), &device),
                                 absl::StrCat("nvmlDeviceGetHandleByUUID(", text, ")"));
  if (!status.ok()) return status;
  return device;
}

absl::StatusOr<std::string> Nvml::UuidOf(NvmlDevice device) const {
  char text[kTextBytes] = {};
  absl::Status status =
      ToStatus(table_.DeviceGetUuid(device, text, kTextBytes), "nvmlDeviceGetUUID");
  if (!status.ok()) return status;
  return std::string(text);
}

absl::StatusOr<Nvml::Memory> Nvml::MemoryOf(NvmlDevice device) const {
  NvmlMemory memory{};
  absl::Status status =
      ToStatus(table_.DeviceGetMemoryInfo(device, &memory), "nvmlDeviceGetMemoryInfo");
  if (!status.ok()) return status;
  if (memory.free == kNvmlValueUnknown || memory.total == kNvmlValueUnknown ||
      memory.free > memory.total) {
    return absl::UnavailableError("nvmlDeviceGetMemoryInfo does not say how much is free");
  }
  return Memory{.total_bytes = memory.total, .free_bytes = memory.free};
}

absl::StatusOr<std::vector<Nvml::ProcessUse>> Nvml::ProcessesOf(NvmlDevice device) const {
  std::vector<NvmlProcess> found(64);
  for (;;) {
    auto count = static_cast<unsigned>(found.size());
    const NvmlResult result = table_.DeviceGetComputeRunningProcesses(device, &count, found.data());
    if (result == kNvmlInsufficientSize && found.size() < kMaxProcesses) {
      // Room for those that start meanwhile, too.
      found.resize(std::clamp<size_t>(size_t{count} * 2, found.size() * 2, kMaxProcesses));
      continue;
    }
    absl::Status status = ToStatus(result, "nvmlDeviceGetComputeRunningProcesses");
    if (!status.ok()) return status;
    if (count > found.size()) {
      return absl::InternalError("nvmlDeviceGetComputeRunningProcesses: more than it had room for");
    }
    found.resize(count);
    break;
  }
  std::vector<ProcessUse> uses;
  for (const NvmlProcess& process : found) {
    ProcessUse use{.pid = static_cast<pid_t>(process.pid), .bytes = std::nullopt};
    if (process.used_bytes != kNvmlValueUnknown) use.bytes = process.used_bytes;
    uses.push_back(use);
  }
  return uses;
}

absl::StatusOr<bool> Nvml::MigEnabled(NvmlDevice device) const {
  unsigned current = kNvmlMigDisabled;
  unsigned pending = kNvmlMigDisabled;
  const NvmlResult result = table_.DeviceGetMigMode(device, &current, &pending);
  if (result == kNvmlNotSupported) return false;
  absl::Status status = ToStatus(result, "nvmlDeviceGetMigMode");
  if (!status.ok()) return status;
  return current == kNvmlMigEnabled;
}

absl::StatusOr<std::string> Nvml::DriverVersion() const {
  char text[kTextBytes] = {};
  absl::Status status =
      ToStatus(table_.SystemGetDriverVersion(text, kTextBytes), "nvmlSystemGetDriverVersion");
  if (!status.ok()) return status;
  return std::string(text);
}

}  // namespace baton::ipc::cuda

// libnvidia-ml.so.1: what a machine's books say, without a context.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "tests/simgpu/machine.h"
#include "tests/simgpu/nvml_exports.h"

namespace baton::ipc::cuda {

struct NvmlDeviceRep {
  DeviceOrdinal device = 0;
};

}  // namespace baton::ipc::cuda

namespace baton::ipc::cuda::sim {
namespace {

constexpr int kMostDevices = 16;
constexpr unsigned kNoInstance = ~0u;  // what NVML says of a device without MIG

std::atomic<int> initialized{0};

NvmlDeviceRep* Devices() {
  static NvmlDeviceRep* const devices = [] {
    auto* const made = new NvmlDeviceRep[kMostDevices];
    for (int i = 0; i < kMostDevices; ++i) made[i].device = i;
    return made;
  }();
  return devices;
}

int DeviceCount(const Knobs& knobs) { return std::min(knobs.device_count(), kMostDevices); }

// What every function but nvmlErrorString begins with.
class NvmlCall {
 public:
  NvmlCall(const char* symbol, bool needs_init) : machine_(Machine::Get()) {
    if (machine_ == nullptr) {
      result_ = kNvmlDriverNotLoaded;
      return;
    }
    result_ = machine_->HangOrFail(symbol, "nvml_hang");
    knobs_ = machine_->Now();
    if (result_ == kNvmlSuccess) result_ = static_cast<NvmlResult>(knobs_->Number("nvml_fail", 0));
    if (result_ == kNvmlSuccess && needs_init && initialized == 0) result_ = kNvmlUninitialized;
  }
  bool refused() const { return result_ != kNvmlSuccess; }
  NvmlResult result() const { return result_; }
  const Knobs& knobs() const { return *knobs_; }
  std::vector<Entry> Look() const { return machine_->books().Look(knobs_->teardown()); }
  bool IsDevice(NvmlDevice device) const {
    const NvmlDeviceRep* const first = Devices();
    return device >= first && device < first + DeviceCount(*knobs_);
  }

 private:
  Machine* machine_;
  std::shared_ptr<const Knobs> knobs_;
  NvmlResult result_ = kNvmlSuccess;
};

NvmlResult CopyText(const std::string& text, char* to, unsigned capacity) {
  if (to == nullptr) return kNvmlInvalidArgument;
  if (text.size() >= capacity) return kNvmlInsufficientSize;
  std::memcpy(to, text.c_str(), text.size() + 1);
  return kNvmlSuccess;
}

// "GPU-8f7c0d5e-...", written here once more: the tests compare.
std::string UuidOf(const Knobs& knobs, DeviceOrdinal device) {
  const Uuid uuid = knobs.UuidOf(device);
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char digits[4];
    const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
    std::snprintf(digits, sizeof(digits), dash ? "-%02x" : "%02x", uuid.bytes[i]);
    text += digits;
  }
  return text;
}

}  // namespace

extern "C" {

NvmlResult SimNvmlInit() {
  const NvmlCall call("nvmlInit_v2", false);
  if (!call.refused()) ++initialized;
  return call.result();
}

NvmlResult SimNvmlShutdown() {
  const NvmlCall call("nvmlShutdown", true);
  if (!call.refused()) --initialized;
  return call.result();
}

const char* SimNvmlErrorString(NvmlResult result) {
  switch (result) {
    case kNvmlSuccess:
      return "Success";
    case kNvmlUninitialized:
      return "Uninitialized";
    case kNvmlInvalidArgument:
      return "Invalid Argument";
    case kNvmlNotSupported:
      return "Not Supported";
    case kNvmlNoPermission:
      return "Insufficient Permissions";
    case kNvmlNotFound:
      return "Not Found";
    case kNvmlInsufficientSize:
      return "Insufficient Size";
    case kNvmlDriverNotLoaded:
      return "Driver Not Loaded";
    case kNvmlTimeout:
      return "Timeout";
    case kNvmlGpuIsLost:
      return "GPU is lost";
    case kNvmlVersionMismatch:
      return "Driver/library version mismatch";
    default:
      return "Unknown Error";
  }
}

NvmlResult SimNvmlSystemGetDriverVersion(char* version, unsigned capacity) {
  const NvmlCall call("nvmlSystemGetDriverVersion", true);
  if (call.refused()) return call.result();
  return CopyText(call.knobs().Text("nvml_driver_version").value_or("580.65.06"), version,
                  capacity);
}

NvmlResult SimNvmlDeviceGetCount(unsigned* count) {
  const NvmlCall call("nvmlDeviceGetCount_v2", true);
  if (call.refused()) return call.result();
  if (count == nullptr) return kNvmlInvalidArgument;
  *count = static_cast<unsigned>(DeviceCount(call.knobs()));
  return kNvmlSuccess;
}

NvmlResult SimNvmlDeviceGetHandleByIndex(unsigned index, NvmlDevice* device) {
  const NvmlCall call("nvmlDeviceGetHandleByIndex_v2", true);
  if (call.refused()) return call.result();
  if (device == nullptr || index >= static_cast<unsigned>(DeviceCount(call.knobs()))) {
    return kNvmlInvalidArgument;
  }
  *device = Devices() + index;
  return kNvmlSuccess;
}

NvmlResult SimNvmlDeviceGetHandleByUuid(const char* uuid, NvmlDevice* device) {
  const NvmlCall call("nvmlDeviceGetHandleByUUID", true);
  if (call.refused()) return call.result();
  if (uuid == nullptr || device == nullptr) return kNvmlInvalidArgument;
  for (int i = 0; i < DeviceCount(call.knobs()); ++i) {
    if (UuidOf(call.knobs(), i) == uuid) {
      *device = Devices() + i;
      return kNvmlSuccess;
    }
  }
  return kNvmlNotFound;
}

NvmlResult SimNvmlDeviceGetUuid(NvmlDevice device, char* uuid, unsigned capacity) {
  const NvmlCall call("nvmlDeviceGetUUID", true);
  if (call.refused()) return call.result();
  if (!call.IsDevice(device)) return kNvmlInvalidArgument;
  return CopyText(UuidOf(call.knobs(), device->device), uuid, capacity);
}

NvmlResult SimNvmlDeviceGetMemoryInfo(NvmlDevice device, NvmlMemory* memory) {
  const NvmlCall call("nvmlDeviceGetMemoryInfo", true);
  if (call.refused()) return call.result();
  if (!call.IsDevice(device) || memory == nullptr) return kNvmlInvalidArgument;
  memory->total = call.knobs().capacity_bytes();
  memory->used =
      std::min<uint64_t>(BytesInUse(call.Look(), call.knobs(), device->device), memory->total);
  memory->free = memory->total - memory->used;
  if (call.knobs().Flag("memory_unknown")) memory->used = memory->free = kNvmlValueUnknown;
  return kNvmlSuccess;
}

NvmlResult SimNvmlDeviceGetComputeRunningProcesses(NvmlDevice device, unsigned* count,
                                                   NvmlProcess* processes) {
  const NvmlCall call("nvmlDeviceGetComputeRunningProcesses_v3", true);
  if (call.refused()) return call.result();
  if (!call.IsDevice(device) || count == nullptr) return kNvmlInvalidArgument;
  const Knobs& knobs = call.knobs();
  std::map<pid_t, uint64_t> bytes;
  if (!knobs.Flag("nvml_hide_pids")) {
    for (const Entry& entry : call.Look()) {
      if (entry.record.device == device->device && entry.charged.has_value()) {
        bytes[*entry.charged] += entry.record.charged_bytes();
      }
    }
    if (device->device == 0 && knobs.foreign_bytes() > 0) {
      bytes[knobs.foreign_pid()] += knobs.foreign_bytes();
    }
  }
  const unsigned capacity = *count;
  *count = static_cast<unsigned>(bytes.size());
  if (capacity < bytes.size()) return kNvmlInsufficientSize;
  if (processes == nullptr && !bytes.empty()) return kNvmlInvalidArgument;
  const bool unknown = knobs.Flag("used_unknown");
  size_t next = 0;
  for (const auto& [pid, used] : bytes) {
    processes[next++] = {.pid = static_cast<unsigned>(pid),
                         .used_bytes = unknown ? kNvmlValueUnknown : used,
                         .gpu_instance = kNoInstance,
                         .compute_instance = kNoInstance};
  }
  return kNvmlSuccess;
}

NvmlResult SimNvmlDeviceGetMigMode(NvmlDevice device, unsigned* current, unsigned* pending) {
  const NvmlCall call("nvmlDeviceGetMigMode", true);
  if (call.refused()) return call.result();
  if (!call.IsDevice(device) || current == nullptr || pending == nullptr) {
    return kNvmlInvalidArgument;
  }
  if (!call.knobs().Flag("mig_supported", true)) return kNvmlNotSupported;
  *current = *pending = call.knobs().Flag("mig_enabled") ? kNvmlMigEnabled : kNvmlMigDisabled;
  return kNvmlSuccess;
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim

// libcuda.so.1: starting, devices, contexts, errors.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

constexpr int kDefaultDriverVersion = 13000;
constexpr uint64_t kMultiprocessors = 132;

struct ErrorText {
  Result result;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrors[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {kDeinitialized, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {kNoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {kUnsupportedPtxVersion, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain"},
    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {kNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {kHostMemoryAlreadyRegistered, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {kHostMemoryNotRegistered, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {kLaunchFailure, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {kNotPermitted, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {kNotSupported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {kSystemDriverMismatch, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {kUnknown, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const ErrorText* FindError(Result result) {
  const auto* const it = std::find_if(std::begin(kErrors), std::end(kErrors),
                                      [&](const ErrorText& e) { return e.result == result; });
  return it == std::end(kErrors) ? nullptr : it;
}

// An empty list hides all devices, as the driver has it; others are not
// simulated.
int VisibleDevices(const Knobs& knobs) {
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible != nullptr && (*visible == '\0' || std::string_view(visible) == "-1")) return 0;
  return knobs.device_count();
}

bool IsDevice(const Knobs& knobs, DeviceOrdinal device) {
  return device >= 0 && device < VisibleDevices(knobs);
}

}  // namespace

extern "C" {

Result SimInit(unsigned flags) {
  Call call("cuInit", Needs::kNothing);
  if (call.refused()) return call.result();
  Machine* const machine = Machine::Get();
  if (flags != 0) return kInvalidValue;
  if (machine == nullptr || VisibleDevices(call.knobs()) == 0) return kNoDevice;
  if (machine->forked_away()) return kNotInitialized;
  call->machine = machine;
  return kSuccess;
}

Result SimDriverGetVersion(int* version) {
  Call call("cuDriverGetVersion", Needs::kNothing);
  if (call.refused()) return call.result();
  if (version == nullptr) return kInvalidValue;
  *version = static_cast<int>(call.knobs().Number("driver_version", kDefaultDriverVersion));
  return kSuccess;
}

Result SimGetErrorName(Result error, const char** name) {
  const ErrorText* const found = FindError(error);
  *name = found == nullptr ? nullptr : found->name;
  return found == nullptr ? kInvalidValue : kSuccess;
}

Result SimGetErrorString(Result error, const char** text) {
  const ErrorText* const found = FindError(error);
  *text = found == nullptr ? nullptr : found->text;
  return found == nullptr ? kInvalidValue : kSuccess;
}

Result SimDeviceGetCount(int* count) {
  Call call("cuDeviceGetCount", Needs::kInit);
  if (call.refused()) return call.result();
  if (count == nullptr) return kInvalidValue;
  *count = VisibleDevices(call.knobs());
  return kSuccess;
}

Result SimDeviceGet(DeviceOrdinal* device, int ordinal) {
  Call call("cuDeviceGet", Needs::kInit);
  if (call.refused()) return call.result();
  if (device == nullptr) return kInvalidValue;
  if (!IsDevice(call.knobs(), ordinal)) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}

Result SimDeviceGetName(char* name, int capacity, DeviceOrdinal device) {
  Call call("cuDeviceGetName", Needs::kInit);
  if (call.refused()) return call.result();
  if (name == nullptr || capacity <= 0) return kInvalidValue;
  if (!IsDevice(call.knobs(), device)) return kInvalidDevice;
  const std::string text = call.knobs().Text("device_name").value_or("Simulated H100");
  const size_t bytes = std::min(text.size(), static_cast<size_t>(capacity) - 1);
  std::memcpy(name, text.data(), bytes);
  name[bytes] = '\0';
  return kSuccess;
}

Result SimDeviceGetUuid(Uuid* uuid, DeviceOrdinal device) {
  Call call("cuDeviceGetUuid_v2", Needs::kInit);
  if (call.refused()) return call.result();
  if (uuid == nullptr) return kInvalidValue;
  if (!IsDevice(call.knobs(), device)) return kInvalidDevice;
  *uuid = call.knobs().UuidOf(device);
  return kSuccess;
}

Result SimDeviceGetAttribute(int* value, int attribute, DeviceOrdinal device) {
  Call call("cuDeviceGetAttribute", Needs::kInit);
  if (call.refused()) return call.result();
  if (value == nullptr) return kInvalidValue;
  const Knobs& knobs = call.knobs();
  if (!IsDevice(knobs, device)) return kInvalidDevice;
  switch (attribute) {
    case kAttributeMultiprocessorCount:
      *value = static_cast<int>(knobs.Number("multiprocessor_count", kMultiprocessors));
      return kSuccess;
    case kAttributeComputeCapabilityMajor:
      *value = static_cast<int>(knobs.Number("compute_capability_major", 9));
      return kSuccess;
    case kAttributeComputeCapabilityMinor:
      *value = static_cast<int>(knobs.Number("compute_capability_minor", 0));
      return kSuccess;
    case kAttributeHostRegisterSupported:
      *value = 1;
      return kSuccess;
    case kAttributeVmmSupported:
    case kAttributePosixFdSupported:
      *value = knobs.Flag("vmm_supported", true) ? 1 : 0;
      return kSuccess;
    case kAttributeIpcEventSupported:
      *value = knobs.Flag("ipc_supported", true) ? 1 : 0;
      return kSuccess;
    default:
      return kInvalidValue;
  }
}

Result SimDeviceTotalMem(size_t* bytes, DeviceOrdinal device) {
  Call call("cuDeviceTotalMem_v2", Needs::kInit);
  if (call.refused()) return call.result();
  if (bytes == nullptr) return kInvalidValue;
  if (!IsDevice(call.knobs(), device)) return kInvalidDevice;
  *bytes = call.knobs().capacity_bytes();
  return kSuccess;
}

Result SimDevicePrimaryCtxRetain(Context* context, DeviceOrdinal device) {
  Call call("cuDevicePrimaryCtxRetain", Needs::kInit);
  if (call.refused()) return call.result();
  if (context == nullptr) return kInvalidValue;
  if (!IsDevice(call.knobs(), device)) return kInvalidDevice;
  std::unique_ptr<ContextRep>& primary = call->contexts[device];
  if (primary == nullptr) {
    Record record;
    const Result result =
        call->Create(RecordKind::kContext, device, call.knobs().context_bytes(), &record);
    if (result != kSuccess) {
      call->contexts.erase(device);
      return result;
    }
    primary = std::make_unique<ContextRep>(ContextRep{.device = device, .record = record});
  }
  ++primary->retains;
  *context = primary.get();
  return kSuccess;
}

Result SimDevicePrimaryCtxRelease(DeviceOrdinal device) {
  Call call("cuDevicePrimaryCtxRelease_v2", Needs::kInit);
  if (call.refused()) return call.result();
  if (!IsDevice(call.knobs(), device)) return kInvalidDevice;
  const auto it = call->contexts.find(device);
  if (it == call->contexts.end()) return kInvalidContext;
  if (--it->second->retains == 0) call->DestroyContext(it->second.get());
  return kSuccess;
}

Result SimCtxSetCurrent(Context context) {
  Call call("cuCtxSetCurrent", Needs::kInit);
  if (call.refused()) return call.result();
  if (context != nullptr && !call->IsContext(context)) return kInvalidContext;
  CurrentContext() = context;
  return kSuccess;
}

Result SimCtxGetCurrent(Context* context) {
  Call call("cuCtxGetCurrent", Needs::kInit);
  if (call.refused()) return call.result();
  if (context == nullptr) return kInvalidValue;
  *context = call->IsContext(CurrentContext()) ? CurrentContext() : nullptr;
  return kSuccess;
}

Result SimCtxSynchronize() {
  Call call("cuCtxSynchronize", Needs::kContext);
  if (call.refused()) return call.result();
  return call->RunAll(call.context(), true);
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim

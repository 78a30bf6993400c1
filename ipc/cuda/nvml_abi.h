// The part of NVML's binary interface that Baton uses, declared by ourselves:
// toolkits come without its header (see driver_abi.h).
#ifndef BATON_IPC_CUDA_NVML_ABI_H_
#define BATON_IPC_CUDA_NVML_ABI_H_

namespace baton::ipc::cuda {

using NvmlResult = int;                    // nvmlReturn_t
using NvmlDevice = struct NvmlDeviceRep*;  // nvmlDevice_t

inline constexpr NvmlResult kNvmlSuccess = 0;
inline constexpr NvmlResult kNvmlUninitialized = 1;
inline constexpr NvmlResult kNvmlInvalidArgument = 2;
inline constexpr NvmlResult kNvmlNotSupported = 3;
inline constexpr NvmlResult kNvmlNoPermission = 4;
inline constexpr NvmlResult kNvmlNotFound = 6;
inline constexpr NvmlResult kNvmlInsufficientSize = 7;
inline constexpr NvmlResult kNvmlDriverNotLoaded = 9;
inline constexpr NvmlResult kNvmlTimeout = 10;
inline constexpr NvmlResult kNvmlGpuIsLost = 15;
inline constexpr NvmlResult kNvmlVersionMismatch = 18;
inline constexpr NvmlResult kNvmlUnknown = 999;

struct NvmlMemory {  // nvmlMemory_t
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
// All bits set: not known.
inline constexpr unsigned long long kNvmlValueUnknown = ~0ull;
struct NvmlProcess {  // nvmlProcessInfo_t of the _v3 functions
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance;
  unsigned compute_instance;
};

inline constexpr unsigned kNvmlMigDisabled = 0;
inline constexpr unsigned kNvmlMigEnabled = 1;

// X(member of NvmlTable, symbol, result, parameters)
#define BATON_NVML_FUNCTIONS(X)                                                              \
  X(Init, "nvmlInit_v2", NvmlResult, ())                                                     \
  X(Shutdown, "nvmlShutdown", NvmlResult, ())                                                \
  X(ErrorString, "nvmlErrorString", const char*, (NvmlResult result))                        \
  X(SystemGetDriverVersion, "nvmlSystemGetDriverVersion", NvmlResult,                        \
    (char* version, unsigned capacity))                                                      \
  X(DeviceGetCount, "nvmlDeviceGetCount_v2", NvmlResult, (unsigned* count))                  \
  X(DeviceGetHandleByIndex, "nvmlDeviceGetHandleByIndex_v2", NvmlResult,                     \
    (unsigned index, NvmlDevice* device))                                                    \
  X(DeviceGetHandleByUuid, "nvmlDeviceGetHandleByUUID", NvmlResult,                          \
    (const char* uuid, NvmlDevice* device))                                                  \
  X(DeviceGetUuid, "nvmlDeviceGetUUID", NvmlResult,                                          \
    (NvmlDevice device, char* uuid, unsigned capacity))                                      \
  X(DeviceGetMemoryInfo, "nvmlDeviceGetMemoryInfo", NvmlResult,                              \
    (NvmlDevice device, NvmlMemory * memory))                                                \
  X(DeviceGetComputeRunningProcesses, "nvmlDeviceGetComputeRunningProcesses_v3", NvmlResult, \
    (NvmlDevice device, unsigned* count, NvmlProcess* processes))                            \
  X(DeviceGetMigMode, "nvmlDeviceGetMigMode", NvmlResult,                                    \
    (NvmlDevice device, unsigned* current, unsigned* pending))

struct NvmlTable {
#define BATON_MEMBER(member, symbol, result, parameters) result(*member) parameters = nullptr;
  BATON_NVML_FUNCTIONS(BATON_MEMBER)
#undef BATON_MEMBER
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_NVML_ABI_H_

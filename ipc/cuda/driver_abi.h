// The part of the CUDA driver's binary interface that Baton uses, declared by
// ourselves: so it builds where there is no toolkit, and nothing is linked.
// tests/ipc/cuda_abi_test.cc holds every size, offset and number against the
// toolkit's own header where there is one.
#ifndef BATON_IPC_CUDA_DRIVER_ABI_H_
#define BATON_IPC_CUDA_DRIVER_ABI_H_

#include <cstddef>
#include <cstdint>

namespace baton::ipc::cuda {

using Result = int;                 // CUresult
using DeviceOrdinal = int;          // CUdevice
using DevicePtr = uint64_t;         // CUdeviceptr
using AllocationHandle = uint64_t;  // CUmemGenericAllocationHandle
using Context = struct ContextRep*;
using Module = struct ModuleRep*;
using Function = struct FunctionRep*;
using Stream = struct StreamRep*;
using Event = struct EventRep*;

inline constexpr Result kSuccess = 0;
inline constexpr Result kInvalidValue = 1;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kNotInitialized = 3;
inline constexpr Result kDeinitialized = 4;
inline constexpr Result kNoDevice = 100;
inline constexpr Result kInvalidDevice = 101;
inline constexpr Result kInvalidImage = 200;
inline constexpr Result kInvalidContext = 201;
inline constexpr Result kNoBinaryForGpu = 209;
inline constexpr Result kUnsupportedPtxVersion = 222;
inline constexpr Result kInvalidHandle = 400;
inline constexpr Result kNotFound = 500;
inline constexpr Result kNotReady = 600;
inline constexpr Result kIllegalAddress = 700;
inline constexpr Result kHostMemoryAlreadyRegistered = 712;
inline constexpr Result kHostMemoryNotRegistered = 713;
inline constexpr Result kLaunchFailure = 719;
inline constexpr Result kNotPermitted = 800;
inline constexpr Result kNotSupported = 801;
inline constexpr Result kSystemDriverMismatch = 803;
inline constexpr Result kUnknown = 999;

// CUdevice_attribute
inline constexpr int kAttributeMultiprocessorCount = 16;
inline constexpr int kAttributeComputeCapabilityMajor = 75;
inline constexpr int kAttributeComputeCapabilityMinor = 76;
inline constexpr int kAttributeHostRegisterSupported = 99;
inline constexpr int kAttributeVmmSupported = 102;
inline constexpr int kAttributePosixFdSupported = 103;
inline constexpr int kAttributeIpcEventSupported = 125;

// CUpointer_attribute
inline constexpr int kPointerAttributeLegacyIpcCapable = 10;

inline constexpr unsigned kIpcLazyEnablePeerAccess = 1;
inline constexpr unsigned kHostRegisterPortable = 1;
inline constexpr unsigned kHostRegisterDeviceMap = 2;
inline constexpr unsigned kHostRegisterReadOnly = 8;
inline constexpr unsigned kHostAllocPortable = 1;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;

struct Uuid {  // CUuuid
  unsigned char bytes[16];
  friend bool operator==(const Uuid&, const Uuid&) = default;
};
struct IpcMemHandle {  // CUipcMemHandle
  unsigned char bytes[64];
};

// Virtual memory management.
inline constexpr int kAllocationTypePinned = 1;
inline constexpr int kHandleTypePosixFd = 1;
inline constexpr int kLocationTypeDevice = 1;
inline constexpr int kAccessRead = 1;
inline constexpr int kAccessReadWrite = 3;
inline constexpr int kGranularityMinimum = 0;
inline constexpr int kGranularityRecommended = 1;

struct MemLocation {  // CUmemLocation
  int type;
  int id;
};
struct AllocationProp {  // CUmemAllocationProp
  int type;
  int requested_handle_types;
  MemLocation location;
  void* win32_handle_meta_data;
  unsigned char compression_type;
  unsigned char gpu_direct_rdma_capable;
  unsigned short usage;
  unsigned char reserved[4];
};
struct AccessDesc {  // CUmemAccessDesc
  MemLocation location;
  int flags;
};

// X(member of DriverTable, symbol, parameters). All return a Result. The
// symbols' versions are part of their names: what a newer header would call by
// the same name may be another function.
#define BATON_CUDA_DRIVER_FUNCTIONS(X)                                                             \
  X(Init, "cuInit", (unsigned flags))                                                              \
  X(DriverGetVersion, "cuDriverGetVersion", (int* version))                                        \
  X(GetErrorName, "cuGetErrorName", (Result error, const char** name))                             \
  X(GetErrorString, "cuGetErrorString", (Result error, const char** text))                         \
  X(DeviceGetCount, "cuDeviceGetCount", (int* count))                                              \
  X(DeviceGet, "cuDeviceGet", (DeviceOrdinal * device, int ordinal))                               \
  X(DeviceGetName, "cuDeviceGetName", (char* name, int capacity, DeviceOrdinal device))            \
  X(DeviceGetUuid, "cuDeviceGetUuid_v2", (Uuid * uuid, DeviceOrdinal device))                      \
  X(DeviceGetAttribute, "cuDeviceGetAttribute", (int* value, int attribute, DeviceOrdinal device)) \
  X(DeviceTotalMem, "cuDeviceTotalMem_v2", (size_t * bytes, DeviceOrdinal device))                 \
  X(DevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (Context * context, DeviceOrdinal device)) \
  X(DevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (DeviceOrdinal device))               \
  X(CtxSetCurrent, "cuCtxSetCurrent", (Context context))                                           \
  X(CtxGetCurrent, "cuCtxGetCurrent", (Context * context))                                         \
  X(CtxSynchronize, "cuCtxSynchronize", ())                                                        \
  X(MemGetInfo, "cuMemGetInfo_v2", (size_t * free, size_t * total))                                \
  X(MemAlloc, "cuMemAlloc_v2", (DevicePtr * address, size_t bytes))                                \
  X(MemFree, "cuMemFree_v2", (DevicePtr address))                                                  \
  X(MemGetAddressRange, "cuMemGetAddressRange_v2",                                                 \
    (DevicePtr * base, size_t * bytes, DevicePtr address))                                         \
  X(PointerGetAttribute, "cuPointerGetAttribute", (void* value, int attribute, DevicePtr address)) \
  X(MemcpyHtoD, "cuMemcpyHtoD_v2", (DevicePtr to, const void* from, size_t bytes))                 \
  X(MemcpyDtoH, "cuMemcpyDtoH_v2", (void* to, DevicePtr from, size_t bytes))                       \
  X(MemcpyDtoD, "cuMemcpyDtoD_v2", (DevicePtr to, DevicePtr from, size_t bytes))                   \
  X(MemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                                       \
    (DevicePtr to, const void* from, size_t bytes, Stream stream))                                 \
  X(MemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2",                                                       \
    (void* to, DevicePtr from, size_t bytes, Stream stream))                                       \
  X(MemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2",                                                       \
    (DevicePtr to, DevicePtr from, size_t bytes, Stream stream))                                   \
  X(MemsetD8, "cuMemsetD8_v2", (DevicePtr to, unsigned char value, size_t bytes))                  \
  X(MemsetD8Async, "cuMemsetD8Async",                                                              \
    (DevicePtr to, unsigned char value, size_t bytes, Stream stream))                              \
  X(MemHostAlloc, "cuMemHostAlloc", (void** memory, size_t bytes, unsigned flags))                 \
  X(MemFreeHost, "cuMemFreeHost", (void* memory))                                                  \
  X(MemHostRegister, "cuMemHostRegister_v2", (void* memory, size_t bytes, unsigned flags))         \
  X(MemHostUnregister, "cuMemHostUnregister", (void* memory))                                      \
  X(MemHostGetDevicePointer, "cuMemHostGetDevicePointer_v2",                                       \
    (DevicePtr * address, void* memory, unsigned flags))                                           \
  X(StreamCreate, "cuStreamCreate", (Stream * stream, unsigned flags))                             \
  X(StreamDestroy, "cuStreamDestroy_v2", (Stream stream))                                          \
  X(StreamSynchronize, "cuStreamSynchronize", (Stream stream))                                     \
  X(StreamQuery, "cuStreamQuery", (Stream stream))                                                 \
  X(EventCreate, "cuEventCreate", (Event * event, unsigned flags))                                 \
  X(EventDestroy, "cuEventDestroy_v2", (Event event))                                              \
  X(EventRecord, "cuEventRecord", (Event event, Stream stream))                                    \
  X(EventSynchronize, "cuEventSynchronize", (Event event))                                         \
  X(EventQuery, "cuEventQuery", (Event event))                                                     \
  X(IpcGetMemHandle, "cuIpcGetMemHandle", (IpcMemHandle * handle, DevicePtr address))              \
  X(IpcOpenMemHandle, "cuIpcOpenMemHandle_v2",                                                     \
    (DevicePtr * address, IpcMemHandle handle, unsigned flags))                                    \
  X(IpcCloseMemHandle, "cuIpcCloseMemHandle", (DevicePtr address))                                 \
  X(MemGetAllocationGranularity, "cuMemGetAllocationGranularity",                                  \
    (size_t * bytes, const AllocationProp* prop, int option))                                      \
  X(MemCreate, "cuMemCreate",                                                                      \
    (AllocationHandle * handle, size_t bytes, const AllocationProp* prop,                          \
     unsigned long long flags))                                                                    \
  X(MemRelease, "cuMemRelease", (AllocationHandle handle))                                         \
  X(MemAddressReserve, "cuMemAddressReserve",                                                      \
    (DevicePtr * address, size_t bytes, size_t alignment, DevicePtr hint,                          \
     unsigned long long flags))                                                                    \
  X(MemAddressFree, "cuMemAddressFree", (DevicePtr address, size_t bytes))                         \
  X(MemMap, "cuMemMap",                                                                            \
    (DevicePtr address, size_t bytes, size_t offset, AllocationHandle handle,                      \
     unsigned long long flags))                                                                    \
  X(MemUnmap, "cuMemUnmap", (DevicePtr address, size_t bytes))                                     \
  X(MemSetAccess, "cuMemSetAccess",                                                                \
    (DevicePtr address, size_t bytes, const AccessDesc* descs, size_t count))                      \
  X(MemExportToShareableHandle, "cuMemExportToShareableHandle",                                    \
    (void* shareable, AllocationHandle handle, int type, unsigned long long flags))                \
  X(MemImportFromShareableHandle, "cuMemImportFromShareableHandle",                                \
    (AllocationHandle * handle, void* shareable, int type))                                        \
  X(ModuleLoadData, "cuModuleLoadData", (Module * module, const void* image))                      \
  X(ModuleUnload, "cuModuleUnload", (Module module))                                               \
  X(ModuleGetFunction, "cuModuleGetFunction",                                                      \
    (Function * function, Module module, const char* name))                                        \
  X(LaunchKernel, "cuLaunchKernel",                                                                \
    (Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,       \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream stream, void** parameters,  \
     void** extra))

struct DriverTable {
#define BATON_MEMBER(member, symbol, parameters) Result(*member) parameters = nullptr;
  BATON_CUDA_DRIVER_FUNCTIONS(BATON_MEMBER)
#undef BATON_MEMBER
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_DRIVER_ABI_H_

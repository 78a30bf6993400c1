// Our declarations of the driver's binary interface against the toolkit's own.
#include <cuda.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <type_traits>

#include "ipc/cuda/driver_abi.h"

namespace baton::ipc::cuda {
namespace {

#define BATON_SAME_NUMBER(ours, theirs) \
  static_assert(static_cast<long long>(ours) == static_cast<long long>(theirs))
#define BATON_SAME_MEMBER(Ours, member, Theirs, their_member)               \
  static_assert(offsetof(Ours, member) == offsetof(Theirs, their_member) && \
                sizeof(Ours::member) == sizeof(Theirs::their_member))

BATON_SAME_NUMBER(kSuccess, CUDA_SUCCESS);
BATON_SAME_NUMBER(kInvalidValue, CUDA_ERROR_INVALID_VALUE);
BATON_SAME_NUMBER(kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY);
BATON_SAME_NUMBER(kNotInitialized, CUDA_ERROR_NOT_INITIALIZED);
BATON_SAME_NUMBER(kDeinitialized, CUDA_ERROR_DEINITIALIZED);
BATON_SAME_NUMBER(kNoDevice, CUDA_ERROR_NO_DEVICE);
BATON_SAME_NUMBER(kInvalidDevice, CUDA_ERROR_INVALID_DEVICE);
BATON_SAME_NUMBER(kInvalidImage, CUDA_ERROR_INVALID_IMAGE);
BATON_SAME_NUMBER(kInvalidContext, CUDA_ERROR_INVALID_CONTEXT);
BATON_SAME_NUMBER(kNoBinaryForGpu, CUDA_ERROR_NO_BINARY_FOR_GPU);
BATON_SAME_NUMBER(kUnsupportedPtxVersion, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
BATON_SAME_NUMBER(kInvalidHandle, CUDA_ERROR_INVALID_HANDLE);
BATON_SAME_NUMBER(kNotFound, CUDA_ERROR_NOT_FOUND);
BATON_SAME_NUMBER(kNotReady, CUDA_ERROR_NOT_READY);
BATON_SAME_NUMBER(kIllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS);
BATON_SAME_NUMBER(kHostMemoryAlreadyRegistered, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
BATON_SAME_NUMBER(kHostMemoryNotRegistered, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
BATON_SAME_NUMBER(kLaunchFailure, CUDA_ERROR_LAUNCH_FAILED);
BATON_SAME_NUMBER(kNotPermitted, CUDA_ERROR_NOT_PERMITTED);
BATON_SAME_NUMBER(kNotSupported, CUDA_ERROR_NOT_SUPPORTED);
BATON_SAME_NUMBER(kSystemDriverMismatch, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
BATON_SAME_NUMBER(kUnknown, CUDA_ERROR_UNKNOWN);

BATON_SAME_NUMBER(kAttributeMultiprocessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
BATON_SAME_NUMBER(kAttributeComputeCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
BATON_SAME_NUMBER(kAttributeComputeCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
BATON_SAME_NUMBER(kAttributeHostRegisterSupported, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED);
BATON_SAME_NUMBER(kAttributeVmmSupported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
BATON_SAME_NUMBER(kAttributePosixFdSupported,
                  CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
BATON_SAME_NUMBER(kAttributeIpcEventSupported, CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED);
BATON_SAME_NUMBER(kPointerAttributeLegacyIpcCapable,
                  CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE);

BATON_SAME_NUMBER(kIpcLazyEnablePeerAccess, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
BATON_SAME_NUMBER(kHostRegisterPortable, CU_MEMHOSTREGISTER_PORTABLE);
BATON_SAME_NUMBER(kHostRegisterDeviceMap, CU_MEMHOSTREGISTER_DEVICEMAP);
BATON_SAME_NUMBER(kHostRegisterReadOnly, CU_MEMHOSTREGISTER_READ_ONLY);
BATON_SAME_NUMBER(kHostAllocPortable, CU_MEMHOSTALLOC_PORTABLE);
BATON_SAME_NUMBER(kStreamNonBlocking, CU_STREAM_NON_BLOCKING);
BATON_SAME_NUMBER(kEventDisableTiming, CU_EVENT_DISABLE_TIMING);
BATON_SAME_NUMBER(kAllocationTypePinned, CU_MEM_ALLOCATION_TYPE_PINNED);
BATON_SAME_NUMBER(kHandleTypePosixFd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
BATON_SAME_NUMBER(kLocationTypeDevice, CU_MEM_LOCATION_TYPE_DEVICE);
BATON_SAME_NUMBER(kAccessRead, CU_MEM_ACCESS_FLAGS_PROT_READ);
BATON_SAME_NUMBER(kAccessReadWrite, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
BATON_SAME_NUMBER(kGranularityMinimum, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
BATON_SAME_NUMBER(kGranularityRecommended, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);

static_assert(sizeof(Uuid) == sizeof(CUuuid));
static_assert(sizeof(IpcMemHandle) == sizeof(CUipcMemHandle));
static_assert(sizeof(DevicePtr) == sizeof(CUdeviceptr));
static_assert(sizeof(DeviceOrdinal) == sizeof(CUdevice));
static_assert(sizeof(AllocationHandle) == sizeof(CUmemGenericAllocationHandle));
static_assert(sizeof(Result) == sizeof(CUresult));

static_assert(sizeof(MemLocation) == sizeof(CUmemLocation));
BATON_SAME_MEMBER(MemLocation, type, CUmemLocation, type);
BATON_SAME_MEMBER(MemLocation, id, CUmemLocation, id);
static_assert(sizeof(AllocationProp) == sizeof(CUmemAllocationProp));
BATON_SAME_MEMBER(AllocationProp, type, CUmemAllocationProp, type);
BATON_SAME_MEMBER(AllocationProp, requested_handle_types, CUmemAllocationProp,
                  requestedHandleTypes);
BATON_SAME_MEMBER(AllocationProp, location, CUmemAllocationProp, location);
BATON_SAME_MEMBER(AllocationProp, win32_handle_meta_data, CUmemAllocationProp, win32HandleMetaData);
BATON_SAME_MEMBER(AllocationProp, compression_type, CUmemAllocationProp,
                  allocFlags.compressionType);
BATON_SAME_MEMBER(AllocationProp, usage, CUmemAllocationProp, allocFlags.usage);
static_assert(sizeof(AccessDesc) == sizeof(CUmemAccessDesc));
BATON_SAME_MEMBER(AccessDesc, flags, CUmemAccessDesc, flags);

// Parameters, one by one: an enumeration of theirs is an int of ours, a struct of theirs one of the
// same size, and a pointer is a pointer.
template <typename Ours, typename Theirs>
constexpr bool SamePassing() {
  if constexpr (std::is_pointer_v<Ours> || std::is_pointer_v<Theirs>) {
    return std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>;
  } else {
    return sizeof(Ours) == sizeof(Theirs) && std::is_class_v<Ours> == std::is_class_v<Theirs>;
  }
}
template <typename Ours, typename Theirs>
struct SameCall : std::false_type {};
template <typename... Ours, typename... Theirs>
struct SameCall<Result (*)(Ours...), CUresult (*)(Theirs...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(Ours) == sizeof...(Theirs)) {
      return (SamePassing<Ours, Theirs>() && ...);
    } else {
      return false;
    }
  }();
};

#define BATON_SAME_CALL(member, function) \
  static_assert(SameCall<decltype(DriverTable::member), decltype(&function)>::value)
BATON_SAME_CALL(Init, cuInit);
BATON_SAME_CALL(DriverGetVersion, cuDriverGetVersion);
BATON_SAME_CALL(GetErrorName, cuGetErrorName);
BATON_SAME_CALL(GetErrorString, cuGetErrorString);
BATON_SAME_CALL(DeviceGetCount, cuDeviceGetCount);
BATON_SAME_CALL(DeviceGet, cuDeviceGet);
BATON_SAME_CALL(DeviceGetName, cuDeviceGetName);
BATON_SAME_CALL(DeviceGetUuid, cuDeviceGetUuid_v2);
BATON_SAME_CALL(DeviceGetAttribute, cuDeviceGetAttribute);
BATON_SAME_CALL(DeviceTotalMem, cuDeviceTotalMem_v2);
BATON_SAME_CALL(DevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain);
BATON_SAME_CALL(DevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2);
BATON_SAME_CALL(CtxSetCurrent, cuCtxSetCurrent);
BATON_SAME_CALL(CtxGetCurrent, cuCtxGetCurrent);
BATON_SAME_CALL(CtxSynchronize, cuCtxSynchronize);
BATON_SAME_CALL(MemGetInfo, cuMemGetInfo_v2);
BATON_SAME_CALL(MemAlloc, cuMemAlloc_v2);
BATON_SAME_CALL(MemFree, cuMemFree_v2);
BATON_SAME_CALL(MemGetAddressRange, cuMemGetAddressRange_v2);
BATON_SAME_CALL(PointerGetAttribute, cuPointerGetAttribute);
BATON_SAME_CALL(MemcpyHtoD, cuMemcpyHtoD_v2);
BATON_SAME_CALL(MemcpyDtoH, cuMemcpyDtoH_v2);
BATON_SAME_CALL(MemcpyDtoD, cuMemcpyDtoD_v2);
BATON_SAME_CALL(MemcpyHtoDAsync, cuMemcpyHtoDAsync_v2);
BATON_SAME_CALL(MemcpyDtoHAsync, cuMemcpyDtoHAsync_v2);
BATON_SAME_CALL(MemcpyDtoDAsync, cuMemcpyDtoDAsync_v2);
BATON_SAME_CALL(MemsetD8, cuMemsetD8_v2);
BATON_SAME_CALL(MemsetD8Async, cuMemsetD8Async);
BATON_SAME_CALL(MemHostAlloc, cuMemHostAlloc);
BATON_SAME_CALL(MemFreeHost, cuMemFreeHost);
BATON_SAME_CALL(MemHostRegister, cuMemHostRegister_v2);
BATON_SAME_CALL(MemHostUnregister, cuMemHostUnregister);
BATON_SAME_CALL(MemHostGetDevicePointer, cuMemHostGetDevicePointer_v2);
BATON_SAME_CALL(StreamCreate, cuStreamCreate);
BATON_SAME_CALL(StreamDestroy, cuStreamDestroy_v2);
BATON_SAME_CALL(StreamSynchronize, cuStreamSynchronize);
BATON_SAME_CALL(StreamQuery, cuStreamQuery);
BATON_SAME_CALL(EventCreate, cuEventCreate);
BATON_SAME_CALL(EventDestroy, cuEventDestroy_v2);
BATON_SAME_CALL(EventRecord, cuEventRecord);
BATON_SAME_CALL(EventSynchronize, cuEventSynchronize);
BATON_SAME_CALL(EventQuery, cuEventQuery);
BATON_SAME_CALL(IpcGetMemHandle, cuIpcGetMemHandle);
BATON_SAME_CALL(IpcOpenMemHandle, cuIpcOpenMemHandle_v2);
BATON_SAME_CALL(IpcCloseMemHandle, cuIpcCloseMemHandle);
BATON_SAME_CALL(MemGetAllocationGranularity, cuMemGetAllocationGranularity);
BATON_SAME_CALL(MemCreate, cuMemCreate);
BATON_SAME_CALL(MemRelease, cuMemRelease);
BATON_SAME_CALL(MemAddressReserve, cuMemAddressReserve);
BATON_SAME_CALL(MemAddressFree, cuMemAddressFree);
BATON_SAME_CALL(MemMap, cuMemMap);
BATON_SAME_CALL(MemUnmap, cuMemUnmap);
BATON_SAME_CALL(MemSetAccess, cuMemSetAccess);
BATON_SAME_CALL(MemExportToShareableHandle, cuMemExportToShareableHandle);
BATON_SAME_CALL(MemImportFromShareableHandle, cuMemImportFromShareableHandle);
BATON_SAME_CALL(ModuleLoadData, cuModuleLoadData);
BATON_SAME_CALL(ModuleUnload, cuModuleUnload);
BATON_SAME_CALL(ModuleGetFunction, cuModuleGetFunction);
BATON_SAME_CALL(LaunchKernel, cuLaunchKernel);

// A function that was added to the table and not to the list above.
#define BATON_COUNT(member, symbol, parameters) +1
constexpr int kFunctions = 0 BATON_CUDA_DRIVER_FUNCTIONS(BATON_COUNT);
#undef BATON_COUNT

TEST(CudaAbi, EveryFunctionIsHeldAgainstTheToolkitsHeader) { EXPECT_EQ(kFunctions, 59); }

}  // namespace
}  // namespace baton::ipc::cuda

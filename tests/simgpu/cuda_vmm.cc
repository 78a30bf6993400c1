// libcuda.so.1: virtual memory management. Memory lives until its mappings,
// handles and descriptors are all gone, in every process.
#include <cstring>

#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

bool IsGranular(uint64_t number) { return number % kGranularityBytes == 0; }

bool IsVmmSupported(const Call& call) { return call.knobs().Flag("vmm_supported", true); }

bool IsDevice(const Call& call, const MemLocation& location) {
  return location.type == kLocationTypeDevice && location.id >= 0 &&
         location.id < call.knobs().device_count();
}

Result CheckProp(const Call& call, const AllocationProp* prop) {
  if (prop == nullptr || prop->type != kAllocationTypePinned ||
      (prop->requested_handle_types & ~kHandleTypePosixFd) != 0) {
    return kInvalidValue;
  }
  return IsDevice(call, prop->location) ? kSuccess : kInvalidDevice;
}

AllocationHandle NewHandle(Call& call, const Record& record) {
  const AllocationHandle handle = ++call->last_vmm_handle;
  call->vmm_handles[handle] = {.record = record};
  return handle;
}

}  // namespace

extern "C" {

Result SimMemGetAllocationGranularity(size_t* bytes, const AllocationProp* prop, int option) {
  Call call("cuMemGetAllocationGranularity", Needs::kInit);
  if (call.refused()) return call.result();
  if (!IsVmmSupported(call)) return kNotSupported;
  if (bytes == nullptr || (option != kGranularityMinimum && option != kGranularityRecommended)) {
    return kInvalidValue;
  }
  if (const Result result = CheckProp(call, prop); result != kSuccess) return result;
  *bytes = kGranularityBytes;
  return kSuccess;
}

Result SimMemCreate(AllocationHandle* handle, size_t bytes, const AllocationProp* prop,
                    unsigned long long flags) {
  Call call("cuMemCreate", Needs::kInit);
  if (call.refused()) return call.result();
  if (!IsVmmSupported(call)) return kNotSupported;
  if (handle == nullptr || bytes == 0 || !IsGranular(bytes) || flags != 0) return kInvalidValue;
  if (const Result result = CheckProp(call, prop); result != kSuccess) return result;
  const bool shareable = prop->requested_handle_types == kHandleTypePosixFd;
  Record record;
  const Result result = call->Create(shareable ? RecordKind::kShareableVmm : RecordKind::kVmm,
                                     prop->location.id, bytes, &record);
  if (result != kSuccess) return result;
  *handle = NewHandle(call, record);
  return kSuccess;
}

Result SimMemRelease(AllocationHandle handle) {
  Call call("cuMemRelease", Needs::kInit);
  if (call.refused()) return call.result();
  const auto it = call->vmm_handles.find(handle);
  if (it == call->vmm_handles.end()) return kInvalidValue;
  if (--it->second.references > 0) return kSuccess;
  call->Release(it->second.record.id);
  call->vmm_handles.erase(it);
  return kSuccess;
}

Result SimMemAddressReserve(DevicePtr* address, size_t bytes, size_t alignment, DevicePtr hint,
                            unsigned long long flags) {
  Call call("cuMemAddressReserve", Needs::kInit);
  if (call.refused()) return call.result();
  if (!IsVmmSupported(call)) return kNotSupported;
  const bool power_of_two = (alignment & (alignment - 1)) == 0;
  if (address == nullptr || bytes == 0 || !IsGranular(bytes) || !power_of_two || flags != 0) {
    return kInvalidValue;
  }
  const std::optional<DevicePtr> base = call->space.Reserve(bytes, alignment, hint);
  if (!base.has_value()) return kOutOfMemory;
  *address = *base;
  return kSuccess;
}

Result SimMemAddressFree(DevicePtr address, size_t bytes) {
  Call call("cuMemAddressFree", Needs::kInit);
  if (call.refused()) return call.result();
  if (call->allocations.contains(address)) return kInvalidValue;
  return call->space.Free(address, bytes) ? kSuccess : kInvalidValue;
}

Result SimMemMap(DevicePtr address, size_t bytes, size_t offset, AllocationHandle handle,
                 unsigned long long flags) {
  Call call("cuMemMap", Needs::kInit);
  if (call.refused()) return call.result();
  const auto it = call->vmm_handles.find(handle);
  if (it == call->vmm_handles.end() || !IsGranular(address) || !IsGranular(bytes) || bytes == 0 ||
      offset != 0 || flags != 0 || bytes > it->second.record.bytes) {
    return kInvalidValue;
  }
  const Record& record = it->second.record;
  const UniqueFd content = call.books().OpenContent(record);
  const Mapping mapping = {
      .base = address, .bytes = bytes, .access = Access::kNone, .record_id = record.id};
  if (!content || !call->space.Map(mapping, bytes, content.get())) return kInvalidValue;
  call->Reference(record);
  return kSuccess;
}

Result SimMemUnmap(DevicePtr address, size_t bytes) {
  Call call("cuMemUnmap", Needs::kInit);
  if (call.refused()) return call.result();
  if (call->allocations.contains(address)) return kInvalidValue;
  const std::vector<uint64_t> records = call->space.Unmap(address, bytes);
  for (const uint64_t id : records) call->Release(id);
  return records.empty() ? kInvalidValue : kSuccess;
}

Result SimMemSetAccess(DevicePtr address, size_t bytes, const AccessDesc* descs, size_t count) {
  Call call("cuMemSetAccess", Needs::kInit);
  if (call.refused()) return call.result();
  if (descs == nullptr || count != 1 || call->allocations.contains(address)) return kInvalidValue;
  if (!IsDevice(call, descs->location)) return kInvalidDevice;
  Access access = Access::kNone;
  if (descs->flags == kAccessRead) {
    access = Access::kRead;
  } else if (descs->flags == kAccessReadWrite) {
    access = Access::kReadWrite;
  } else if (descs->flags != 0) {
    return kInvalidValue;
  }
  return call->space.SetAccess(address, bytes, access) ? kSuccess : kInvalidValue;
}

Result SimMemExportToShareableHandle(void* shareable, AllocationHandle handle, int type,
                                     unsigned long long flags) {
  Call call("cuMemExportToShareableHandle", Needs::kInit);
  if (call.refused()) return call.result();
  const auto it = call->vmm_handles.find(handle);
  if (shareable == nullptr || type != kHandleTypePosixFd || flags != 0 ||
      it == call->vmm_handles.end() || it->second.record.kind != RecordKind::kShareableVmm) {
    return kInvalidValue;
  }
  UniqueFd descriptor = call.books().Export(it->second.record);
  if (!descriptor) return kUnknown;
  const int fd = descriptor.release();  // the caller's
  std::memcpy(shareable, &fd, sizeof(fd));
  return kSuccess;
}

Result SimMemImportFromShareableHandle(AllocationHandle* handle, void* shareable, int type) {
  Call call("cuMemImportFromShareableHandle", Needs::kInit);
  if (call.refused()) return call.result();
  if (!IsVmmSupported(call)) return kNotSupported;
  if (handle == nullptr || type != kHandleTypePosixFd) return kInvalidValue;
  // The descriptor itself stands in the pointer.
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(shareable));
  const std::optional<Record> record = call.books().HoldDescriptor(fd);
  if (!record.has_value()) return kInvalidValue;
  if (!call->Reference(*record)) call->Hold(*record);
  *handle = NewHandle(call, *record);
  return kSuccess;
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim

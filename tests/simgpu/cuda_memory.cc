// libcuda.so.1: cuMemAlloc and what is asked of addresses.
#include <algorithm>

#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

// Of CUpointer_attribute, beyond what Baton asks for.
constexpr int kPointerAttributeMemoryType = 2;
constexpr int kPointerAttributeDeviceOrdinal = 9;
constexpr unsigned kMemoryTypeHost = 1;
constexpr unsigned kMemoryTypeDevice = 2;

}  // namespace

extern "C" {

Result SimMemGetInfo(size_t* free, size_t* total) {
  Call call("cuMemGetInfo_v2", Needs::kContext);
  if (call.refused()) return call.result();
  if (free == nullptr || total == nullptr) return kInvalidValue;
  const Knobs& knobs = call.knobs();
  const uint64_t in_use =
      BytesInUse(call.books().Look(knobs.teardown()), knobs, call.context()->device);
  *total = knobs.capacity_bytes();
  *free = *total - std::min<uint64_t>(in_use, *total);
  return kSuccess;
}

Result SimMemAlloc(DevicePtr* address, size_t bytes) {
  Call call("cuMemAlloc_v2", Needs::kContext);
  if (call.refused()) return call.result();
  if (address == nullptr || bytes == 0) return kInvalidValue;
  Record record;
  const Result result = call->Create(RecordKind::kLegacy, call.context()->device, bytes, &record);
  if (result != kSuccess) return result;
  const std::optional<DevicePtr> base = call->MapWhole(record);
  if (!base.has_value()) {
    call->Release(record.id);
    return kOutOfMemory;
  }
  call->allocations[*base] = {.context = call.context(), .record = record};
  *address = *base;
  return kSuccess;
}

Result SimMemFree(DevicePtr address) {
  Call call("cuMemFree_v2", Needs::kContext);
  if (call.refused()) return call.result();
  if (address == 0) return kSuccess;
  const auto it = call->allocations.find(address);
  if (it == call->allocations.end() || it->second.imported) return kInvalidValue;
  // Freeing waits for all work, as the driver does.
  const Result result = call->RunAll(it->second.context, true);
  call->UnmapWhole(address, it->second.record.bytes);
  call->Release(it->second.record.id);
  call->allocations.erase(it);
  return result;
}

Result SimMemGetAddressRange(DevicePtr* base, size_t* bytes, DevicePtr address) {
  Call call("cuMemGetAddressRange_v2", Needs::kContext);
  if (call.refused()) return call.result();
  const Mapping* const mapping = call->space.Find(address);
  if (mapping == nullptr) return kNotFound;
  if (base != nullptr) *base = mapping->base;
  if (bytes != nullptr) *bytes = mapping->bytes;
  return kSuccess;
}

Result SimPointerGetAttribute(void* value, int attribute, DevicePtr address) {
  Call call("cuPointerGetAttribute", Needs::kContext);
  if (call.refused()) return call.result();
  if (value == nullptr) return kInvalidValue;
  const Mapping* const mapping = call->space.Find(address);
  const bool host = call->space.FindHost(address, 1) != nullptr;
  if (mapping == nullptr && !host) return kInvalidValue;
  switch (attribute) {
    case kPointerAttributeMemoryType:
      *static_cast<unsigned*>(value) = host ? kMemoryTypeHost : kMemoryTypeDevice;
      return kSuccess;
    case kPointerAttributeDeviceOrdinal: {
      const Record* const record = host ? nullptr : call->FindHeld(mapping->record_id);
      *static_cast<int*>(value) = record == nullptr ? call.context()->device : record->device;
      return kSuccess;
    }
    case kPointerAttributeLegacyIpcCapable: {
      const auto it = host ? call->allocations.end() : call->allocations.find(mapping->base);
      const bool capable = it != call->allocations.end() && !it->second.imported &&
                           call.knobs().Flag("ipc_supported", true);
      *static_cast<unsigned*>(value) = capable ? 1 : 0;
      return kSuccess;
    }
    default:
      return kInvalidValue;
  }
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim

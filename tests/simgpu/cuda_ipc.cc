// libcuda.so.1: legacy IPC. A handle names a whole allocation of cuMemAlloc;
// who opens it holds the memory as its owner does.
#include <unistd.h>

#include <cstring>

#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

struct HandleContent {
  char magic[8];
  Uuid machine;
  uint64_t record_id;
  int32_t owner;
  int32_t unused;
};
static_assert(sizeof(HandleContent) <= sizeof(IpcMemHandle));
constexpr char kMagic[8] = {'s', 'i', 'm', 'g', 'p', 'u', 'm', '1'};

Result Open(Call& call, const HandleContent& handle, DevicePtr* address) {
  for (auto& [base, allocation] : call->allocations) {
    if (allocation.imported && allocation.record.id == handle.record_id) {
      ++allocation.opens;
      *address = base;
      return kSuccess;
    }
  }
  const std::optional<Record> record = call.books().HoldOf(handle.record_id, handle.owner);
  if (!record.has_value()) return kInvalidHandle;
  call->Hold(*record);
  const std::optional<DevicePtr> base = call->MapWhole(*record);
  if (!base.has_value()) {
    call->Release(record->id);
    return kOutOfMemory;
  }
  call->allocations[*base] = {.context = call.context(), .record = *record, .imported = true};
  *address = *base;
  return kSuccess;
}

}  // namespace

extern "C" {

Result SimIpcGetMemHandle(IpcMemHandle* handle, DevicePtr address) {
  Call call("cuIpcGetMemHandle", Needs::kContext);
  if (call.refused()) return call.result();
  if (!call.knobs().Flag("ipc_supported", true)) return kNotSupported;
  const auto it = call->allocations.find(address);
  if (handle == nullptr || it == call->allocations.end() || it->second.imported) {
    return kInvalidValue;
  }
  HandleContent content{};
  std::memcpy(content.magic, kMagic, sizeof(kMagic));
  content.machine = call.knobs().UuidOf(0);
  content.record_id = it->second.record.id;
  content.owner = it->second.record.owner;
  *handle = {};
  std::memcpy(handle->bytes, &content, sizeof(content));
  return kSuccess;
}

Result SimIpcOpenMemHandle(DevicePtr* address, IpcMemHandle handle, unsigned flags) {
  Call call("cuIpcOpenMemHandle_v2", Needs::kContext);
  if (call.refused()) return call.result();
  if (!call.knobs().Flag("ipc_supported", true)) return kNotSupported;
  if (address == nullptr || flags != kIpcLazyEnablePeerAccess) return kInvalidValue;
  HandleContent content{};
  std::memcpy(&content, handle.bytes, sizeof(content));
  const Uuid machine = call.knobs().UuidOf(0);
  if (std::memcmp(content.magic, kMagic, sizeof(kMagic)) != 0 ||
      std::memcmp(&content.machine, &machine, sizeof(machine)) != 0) {
    return kInvalidHandle;
  }
  // A process cannot open its own handle.
  if (content.owner == ::getpid()) return kInvalidContext;
  return Open(call, content, address);
}

Result SimIpcCloseMemHandle(DevicePtr address) {
  Call call("cuIpcCloseMemHandle", Needs::kContext);
  if (call.refused()) return call.result();
  const auto it = call->allocations.find(address);
  if (it == call->allocations.end() || !it->second.imported) return kInvalidValue;
  if (--it->second.opens > 0) return kSuccess;
  const Result result = call->RunAll(it->second.context, true);
  call->UnmapWhole(address, it->second.record.bytes);
  call->Release(it->second.record.id);
  call->allocations.erase(it);
  return result;
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim

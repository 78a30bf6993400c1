// libcuda.so.1: copies and fills. What they may touch is checked when they are
// called, and again when they run.
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

// A range that a copy reads or writes.
struct Place {
  DevicePtr device = 0;
  const void* host = nullptr;  // instead
};

// kInvalidValue unless the device's range may be used so and the host's pointer
// is none of the device's.
Result Check(const DriverState& state, const Place& place, size_t bytes, bool to_write) {
  if (place.host != nullptr) {
    return state.space.Reserved(reinterpret_cast<uint64_t>(place.host)) ? kInvalidValue : kSuccess;
  }
  return state.space.Translate(place.device, bytes, to_write) != nullptr ? kSuccess : kInvalidValue;
}

void* Resolve(const DriverState& state, const Place& place, size_t bytes, bool to_write) {
  if (place.host != nullptr) return const_cast<void*>(place.host);
  return state.space.Translate(place.device, bytes, to_write);
}

Result Copy(Call& call, const Place& to, const Place& from, size_t bytes, Stream stream) {
  if (call.refused()) return call.result();
  if (!call->IsStream(stream)) return kInvalidHandle;
  if (bytes == 0) return kSuccess;
  if ((to.host == nullptr && to.device == 0) || (from.host == nullptr && from.device == 0) ||
      Check(call.state(), to, bytes, true) != kSuccess ||
      Check(call.state(), from, bytes, false) != kSuccess) {
    return kInvalidValue;
  }
  DriverState& state = call.state();
  Place source = from;
  std::shared_ptr<std::string> staged;
  if (stream != nullptr && from.host != nullptr &&
      state.space.FindHost(reinterpret_cast<uint64_t>(from.host), bytes) == nullptr) {
    // Pageable memory is read before the call returns: its owner may reuse it.
    staged = std::make_shared<std::string>(static_cast<const char*>(from.host), bytes);
    source.host = staged->data();
  }
  return state.Submit(call.context(), stream, [&state, to, source, staged, bytes]() -> Result {
    void* const destination = Resolve(state, to, bytes, true);
    const void* const origin = Resolve(state, source, bytes, false);
    if (destination == nullptr || origin == nullptr) return kIllegalAddress;
    std::memmove(destination, origin, bytes);
    return kSuccess;
  });
}

Result Fill(Call& call, DevicePtr to, unsigned char value, size_t bytes, Stream stream) {
  if (call.refused()) return call.result();
  if (!call->IsStream(stream)) return kInvalidHandle;
  if (bytes == 0) return kSuccess;
  DriverState& state = call.state();
  if (state.space.Translate(to, bytes, true) == nullptr) return kInvalidValue;
  return state.Submit(call.context(), stream, [&state, to, value, bytes]() -> Result {
    void* const destination = state.space.Translate(to, bytes, true);
    if (destination == nullptr) return kIllegalAddress;
    std::memset(destination, value, bytes);
    return kSuccess;
  });
}

}  // namespace

extern "C" {

Result SimMemcpyHtoD(DevicePtr to, const void* from, size_t bytes) {
  Call call("cuMemcpyHtoD_v2", Needs::kContext);
  return Copy(call, {.device = to}, {.host = from}, bytes, nullptr);
}

Result SimMemcpyDtoH(void* to, DevicePtr from, size_t bytes) {
  Call call("cuMemcpyDtoH_v2", Needs::kContext);
  return Copy(call, {.host = to}, {.device = from}, bytes, nullptr);
}

Result SimMemcpyDtoD(DevicePtr to, DevicePtr from, size_t bytes) {
  Call call("cuMemcpyDtoD_v2", Needs::kContext);
  return Copy(call, {.device = to}, {.device = from}, bytes, nullptr);
}

Result SimMemcpyHtoDAsync(DevicePtr to, const void* from, size_t bytes, Stream stream) {
  Call call("cuMemcpyHtoDAsync_v2", Needs::kContext);
  return Copy(call, {.device = to}, {.host = from}, bytes, stream);
}

Result SimMemcpyDtoHAsync(void* to, DevicePtr from, size_t bytes, Stream stream) {
  Call call("cuMemcpyDtoHAsync_v2", Needs::kContext);
  return Copy(call, {.host = to}, {.device = from}, bytes, stream);
}

Result SimMemcpyDtoDAsync(DevicePtr to, DevicePtr from, size_t bytes, Stream stream) {
  Call call("cuMemcpyDtoDAsync_v2", Needs::kContext);
  return Copy(call, {.device = to}, {.device = from}, bytes, stream);
}

Result SimMemsetD8(DevicePtr to, unsigned char value, size_t bytes) {
  Call call("cuMemsetD8_v2", Needs::kContext);
  return Fill(call, to, value, bytes, nullptr);
}

Result SimMemsetD8Async(DevicePtr to, unsigned char value, size_t bytes, Stream stream) {
  Call call("cuMemsetD8Async", Needs::kContext);
  return Fill(call, to, value, bytes, stream);
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim

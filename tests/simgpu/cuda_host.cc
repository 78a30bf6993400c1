// libcuda.so.1: host memory that the device may use.
#include <sys/mman.h>

#include <cinttypes>
#include <cstdio>

#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

constexpr unsigned kHostAllocFlags = 7;  // portable, device map, write-combined

uint64_t AsNumber(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

// Whether this process may read all of it, or write it: a driver pins the pages
// for what it will do with them.
bool IsMapped(uint64_t address, size_t bytes, bool to_write) {
  std::FILE* const maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return false;
  uint64_t next = address;
  char line[4096];
  while (next < address + bytes && std::fgets(line, sizeof(line), maps) != nullptr) {
    uint64_t start = 0, end = 0;
    char readable = 0, writable = 0;
    if (std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %c%c", &start, &end, &readable, &writable) !=
        4) {
      continue;
    }
    if (end <= next) continue;
    if (start > next || readable != 'r' || (to_write && writable != 'w')) break;
    next = end;
  }
  std::fclose(maps);
  return next >= address + bytes;
}

}  // namespace

extern "C" {

Result SimMemHostAlloc(void** memory, size_t bytes, unsigned flags) {
  Call call("cuMemHostAlloc", Needs::kContext);
  if (call.refused()) return call.result();
  if (memory == nullptr || bytes == 0 || (flags & ~kHostAllocFlags) != 0) return kInvalidValue;
  void* const got =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) return kOutOfMemory;
  call->space.host_ranges()[AsNumber(got)] = {.bytes = bytes, .allocated = true};
  *memory = got;
  return kSuccess;
}

Result SimMemFreeHost(void* memory) {
  Call call("cuMemFreeHost", Needs::kContext);
  if (call.refused()) return call.result();
  auto& ranges = call->space.host_ranges();
  const auto it = ranges.find(AsNumber(memory));
  if (it == ranges.end() || !it->second.allocated) return kInvalidValue;
  const Result result = call->RunAll(call.context(), true);
  ::munmap(memory, it->second.bytes);
  ranges.erase(it);
  return result;
}

Result SimMemHostRegister(void* memory, size_t bytes, unsigned flags) {
  Call call("cuMemHostRegister_v2", Needs::kContext);
  if (call.refused()) return call.result();
  constexpr unsigned kKnown =
      kHostRegisterPortable | kHostRegisterDeviceMap | kHostRegisterReadOnly;
  if (memory == nullptr || bytes == 0 || (flags & ~kKnown) != 0) return kInvalidValue;
  const bool read_only = (flags & kHostRegisterReadOnly) != 0;
  if (read_only && !call.knobs().Flag("host_register_read_only", true)) return kNotSupported;
  const uint64_t address = AsNumber(memory);
  if (call->space.OverlapsHost(address, bytes)) return kHostMemoryAlreadyRegistered;
  if (call->space.Reserved(address) || !IsMapped(address, bytes, !read_only)) return kInvalidValue;
  call->space.host_ranges()[address] = {.bytes = bytes, .read_only = read_only};
  return kSuccess;
}

Result SimMemHostUnregister(void* memory) {
  Call call("cuMemHostUnregister", Needs::kContext);
  if (call.refused()) return call.result();
  auto& ranges = call->space.host_ranges();
  const auto it = ranges.find(AsNumber(memory));
  if (it == ranges.end() || it->second.allocated) return kHostMemoryNotRegistered;
  const Result result = call->RunAll(call.context(), true);
  ranges.erase(it);
  return result;
}

Result SimMemHostGetDevicePointer(DevicePtr* address, void* memory, unsigned flags) {
  Call call("cuMemHostGetDevicePointer_v2", Needs::kContext);
  if (call.refused()) return call.result();
  if (address == nullptr || flags != 0 || call->space.FindHost(AsNumber(memory), 1) == nullptr) {
    return kInvalidValue;
  }
  *address = AsNumber(memory);
  return kSuccess;
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim

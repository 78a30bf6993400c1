// What a measurement tells a peer (a process with a context of its own) to do,
// and what the peer says then. Both ends are one program, so these are plain
// bytes on a packet socket, a descriptor beside them where one is needed.
//
// Thread safety: one thread at a time for each end.
#ifndef BATON_TOOLS_GPU_CHECK_PEER_MESSAGE_H_
#define BATON_TOOLS_GPU_CHECK_PEER_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/unique_fd.h"

namespace baton::gpu_check {

// Address, bytes, value, handle: the request's; v0..v3: the reply's values.
// Times are nanoseconds.
enum class Verb : uint32_t {
  kOpenContext,    // v0 time of loading the driver, v1 of the context
  kCloseContext,   // v0 time
  kAllocate,       // bytes -> v0 address, v1 time
  kFree,           // address -> v0 time
  kFill,           // address, bytes, value: every byte
  kCheck,          // address, bytes, value -> v0 bytes that differ, of both ends' 64 KiB
  kMemoryInfo,     // v0 free, v1 total, v2 time
  kLegacyCapable,  // address -> v0 0 or 1
  kExport,         // address -> handle, v0 time
  kExportOften,    // address, value: how often -> v0 median, v1 most
  kOpen,           // handle -> v0 address, v1 time, v2 base and v3 bytes of its allocation
  kClose,          // address -> v0 time
  kOpenOften,      // handle, value: how often -> v0, v1 open median, most; v2, v3 close
  kCreate,         // bytes -> v0 address, v1 time to create, v2 to map, v3 to set access
  kShare,          // -> descriptor, v0 time
  kImport,         // descriptor, bytes, value: access -> v0.. as kCreate
  kUnmap,          // address, bytes -> v0 time
  kReleaseHandle,  // of kCreate or kImport -> v0 time
  kWriteByCopy,    // address, value: one byte
  kWriteByFill,    // address, value
  kWriteByKernel,  // address, value: four times that byte; v0: how many steps had succeeded
};

struct PeerRequest {
  Verb verb{};
  uint32_t value = 0;
  uint64_t address = 0;
  uint64_t bytes = 0;
  ipc::cuda::IpcMemHandle handle{};
};

struct PeerReply {
  ipc::cuda::Result result = 0;  // of the first call that failed
  char text[236] = {};           // what failed; empty: nothing did
  uint64_t values[4] = {};
  ipc::cuda::IpcMemHandle handle{};

  bool ok() const { return text[0] == '\0'; }
};

// One packet. UNAVAILABLE: the other end has gone.
absl::Status SendPacket(int socket, std::span<const std::byte> bytes, int fd = -1);
// Exactly as many bytes as `to` has; `fd` is what came beside them.
// DEADLINE_EXCEEDED: nothing came within `timeout`.
absl::Status ReceivePacket(int socket, std::span<std::byte> to, ipc::UniqueFd& fd,
                           absl::Duration timeout);

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_PEER_MESSAGE_H_

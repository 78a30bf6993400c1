// What an ArenaExport's token says of memory on a GPU.
//
// Thread safety: free functions, no state.
#ifndef BATON_IPC_CUDA_ARENA_TOKEN_H_
#define BATON_IPC_CUDA_ARENA_TOKEN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/process.h"

namespace baton::ipc::cuda {

// How another process gets at an arena.
enum class Transport {
  kIpc,  // a handle of the driver's. The memory outlives its owner while it is open anywhere
  kVmm,  // a file descriptor; importers can be kept from writing
};

struct ArenaToken {
  Transport transport = Transport::kIpc;
  std::optional<IpcMemHandle> handle;  // with kIpc, once there is one
  uint64_t base_offset = 0;
  uint64_t bytes = 0;
  Uuid device_uuid{};
  uint32_t ordinal = 0;
  uint64_t generation = 0;
  ProcessIdentity owner;
};

std::string EncodeArenaToken(const ArenaToken& token);

// `bytes` come from another process: INVALID_ARGUMENT says what is wrong with
// them. Checked are the sizes, not whether such memory exists.
absl::StatusOr<ArenaToken> ParseArenaToken(std::string_view bytes);

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_ARENA_TOKEN_H_

// Devices by name: "host", "cuda:0".
//
// Thread safety: free functions; any thread.
#ifndef BATON_IPC_OPEN_DEVICE_H_
#define BATON_IPC_OPEN_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/arena_token.h"
#include "ipc/device.h"

namespace baton::ipc {

struct DeviceName {
  enum class Kind { kHost, kCuda };
  Kind kind = Kind::kHost;
  uint32_t ordinal = 0;  // of a GPU
};

// INVALID_ARGUMENT for anything else than "host" and "cuda:N".
absl::StatusOr<DeviceName> ParseDeviceName(const std::string& name);

struct DeviceOptions {
  std::string name = "host";
  std::optional<cuda::Transport> transport = {};  // nullopt: by what the device can do
  bool huge_pages = false;                        // of the host device: see CreateHostDevice
};

// What a device is like, found out without taking any of its memory.
struct DeviceProfile {
  uint64_t total_bytes = 0;        // 0 on the host device: what the supervisor admits
  uint64_t granularity_bytes = 1;  // an arena takes a multiple of this
};
// Checks that the device is there and can do what Baton needs, as the status
// says otherwise.
absl::StatusOr<DeviceProfile> ProbeDevice(const DeviceOptions& options);

// What is to be told before any memory of the device is taken, so that
// whoever confirms knows of it whatever becomes of this process; nullopt on
// the host device, whose arena is told of once it is there. Takes no device
// memory.
absl::StatusOr<std::optional<ArenaExport>> AnnounceArena(const DeviceOptions& options,
                                                         uint64_t bytes, uint64_t generation);

// On a GPU this makes the context. `capacity_bytes` is what the supervisor
// admitted.
absl::StatusOr<std::unique_ptr<Device>> OpenDevice(const DeviceOptions& options,
                                                   uint64_t capacity_bytes);

// Maps another process's arena for reading, whatever device it is on. On a
// GPU this makes a context where this process has none yet, and keeps it to
// its end: a service that takes device tensors needs one anyway.
absl::StatusOr<std::unique_ptr<ImportedArena>> ImportArena(ArenaExport arena);

}  // namespace baton::ipc

#endif  // BATON_IPC_OPEN_DEVICE_H_

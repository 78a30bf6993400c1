#include "ipc/cuda/arena_description.h"

#include "absl/status/status.h"

namespace baton::ipc::cuda {

absl::StatusOr<ArenaDescription> DescribeArena(const ArenaExport& arena) {
  if (arena.token.empty()) {
    return ArenaDescription{
        .kind = ArenaDescription::Kind::kHost, .device = {}, .owner = 0, .bytes = arena.bytes};
  }
  // PARSE HERE: the token is a serialized schema::DeviceHandle. Check that its bytes and generation
  // are the export's, and that deviceUuid has 16 bytes.
  return absl::UnimplementedError(
      "the arena came with a device handle, which this build cannot read: write `device: host`");
}

}  // namespace baton::ipc::cuda

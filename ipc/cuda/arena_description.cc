#include "ipc/cuda/arena_description.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "ipc/cuda/arena_token.h"

namespace baton::ipc::cuda {

absl::StatusOr<ArenaDescription> DescribeArena(const ArenaExport& arena) {
  if (arena.token.empty()) {
    return ArenaDescription{
        .kind = ArenaDescription::Kind::kHost, .device = {}, .owner = 0, .bytes = arena.bytes};
  }
  const absl::StatusOr<ArenaToken> token = ParseArenaToken(arena.token);
  if (!token.ok()) return token.status();
  if (token->bytes != arena.bytes || token->generation != arena.generation) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the arena of generation ", arena.generation, " is said to have ", arena.bytes,
        " bytes; its handle says ", token->bytes, " of generation ", token->generation));
  }
  return ArenaDescription{.kind = ArenaDescription::Kind::kCuda,
                          .device = token->device_uuid,
                          .owner = token->owner.pid,
                          .bytes = arena.bytes};
}

}  // namespace baton::ipc::cuda

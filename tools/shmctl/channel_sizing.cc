#include "tools/shmctl/channel_sizing.h"

#include <algorithm>

namespace baton::shmctl {
namespace {

constexpr uint32_t kRingEntries = 16;
// Small tensors get this much anyway; descriptors and alignment fit into it.
constexpr uint64_t kSmallestArenaBytes = 256 << 10;
// How many requests of one size the arenas hold.
constexpr uint64_t kRequestsInArena = 2;

uint64_t ArenaBytes(uint64_t tensor_bytes) {
  // Descriptors, and each tensor's alignment, are far below the smallest arena.
  return kSmallestArenaBytes + kRequestsInArena * tensor_bytes;
}

}  // namespace

std::vector<TensorSpec> SpecsOf(const std::vector<HostTensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const HostTensor& tensor : tensors) specs.push_back(tensor.spec);
  return specs;
}

uint64_t TotalBytes(const std::vector<HostTensor>& tensors) {
  uint64_t bytes = 0;
  for (const HostTensor& tensor : tensors) bytes += tensor.bytes.size();
  return bytes;
}

ChannelOptions SizeChannel(const std::vector<HostTensor>& inputs, const Signature& signature,
                           uint64_t dynamic_response_bytes) {
  uint64_t response_bytes = 0;
  bool dynamic = false;
  for (const TensorSpec& output : signature.outputs) {
    const std::optional<uint64_t> bytes = TensorBytes(output.dtype, output.shape);
    response_bytes += bytes.value_or(0);
    dynamic = dynamic || !bytes;
  }
  ChannelOptions options;
  options.ring_entries = kRingEntries;
  options.request_arena_bytes = ArenaBytes(TotalBytes(inputs));
  options.response_arena_bytes = ArenaBytes(response_bytes);
  if (dynamic) {
    options.response_arena_bytes = std::max(options.response_arena_bytes, dynamic_response_bytes);
  }
  return options;
}

}  // namespace baton::shmctl

#include "kernels/pack.h"

#include <cstring>

namespace baton::kernels {

// An empty block may have no address, which memcpy must not see.

void Pack(std::span<const RowBlock> blocks, size_t row_bytes, std::byte* batch) {
  for (const RowBlock& block : blocks) {
    const size_t bytes = block.rows * row_bytes;
    if (bytes == 0) continue;
    std::memcpy(batch, block.data, bytes);
    batch += bytes;
  }
}

void Unpack(const std::byte* batch, size_t row_bytes, std::span<const MutableRowBlock> blocks) {
  for (const MutableRowBlock& block : blocks) {
    const size_t bytes = block.rows * row_bytes;
    if (bytes == 0) continue;
    std::memcpy(block.data, batch, bytes);
    batch += bytes;
  }
}

}  // namespace baton::kernels

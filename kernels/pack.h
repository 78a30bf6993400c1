// Gathering the rows of several requests into one dense batch, and scattering
// a batch back. The CPU reference.
//
// Thread safety: pure functions; they touch only what they are given, and
// allocate nothing. The blocks and the batch may not overlap.
#ifndef BATON_KERNELS_PACK_H_
#define BATON_KERNELS_PACK_H_

#include <cstddef>
#include <span>

namespace baton::kernels {

// The rows of one request: `rows` times row_bytes, dense. May be empty.
struct RowBlock {
  const std::byte* data = nullptr;
  size_t rows = 0;
};
struct MutableRowBlock {
  std::byte* data = nullptr;
  size_t rows = 0;
};

// The blocks one after another into `batch`, which has room for all their rows.
// Cost: a copy of all rows.
void Pack(std::span<const RowBlock> blocks, size_t row_bytes, std::byte* batch);

// The reverse: the batch's rows, in order, into the blocks.
void Unpack(const std::byte* batch, size_t row_bytes, std::span<const MutableRowBlock> blocks);

}  // namespace baton::kernels

#endif  // BATON_KERNELS_PACK_H_

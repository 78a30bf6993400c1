// How many threads each kernel is launched with.
//
// Every kernel is right with any grid of at least one block in the dimensions
// that it strides over; these shapes are chosen for speed. baton_dense needs
// exactly its shape: a block computes one tile.
//
// Thread safety: pure functions.
#ifndef BATON_KERNELS_CUDA_GRID_H_
#define BATON_KERNELS_CUDA_GRID_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/kernel_args.h"

namespace baton::kernels::cuda {

// Blocks of a launch, and threads of a block.
struct Grid {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  unsigned block_x = kBlockThreads;
  unsigned block_y = 1;
  unsigned block_z = 1;
};

// The device's own limits.
inline constexpr uint64_t kMaxGridX = (uint64_t{1} << 31) - 1;
inline constexpr uint64_t kMaxGridY = 65535;
// More blocks than this are not resident at once on any device so far: the
// threads stride over the rest.
inline constexpr uint64_t kEnoughBlocks = 2048;

constexpr uint64_t Quotient(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit; }

// Enough threads for `items` with `items_per_thread` each, within kEnoughBlocks.
constexpr unsigned BlocksFor(uint64_t items, uint64_t items_per_thread) {
  return static_cast<unsigned>(
      std::clamp<uint64_t>(Quotient(items, items_per_thread * kBlockThreads), 1, kEnoughBlocks));
}

// One row of blocks for each row block, as wide as the largest needs.
constexpr Grid GridOf(const RowBlocksArgs& args) {
  uint64_t rows = 0;
  for (uint32_t i = 0; i < args.block_count; ++i) rows = std::max(rows, args.blocks[i].rows);
  return Grid{.x = BlocksFor(rows * args.row_bytes, 64), .y = args.block_count};
}
constexpr Grid GridOf(const CastArgs& args) { return Grid{.x = BlocksFor(args.count, 4)}; }
constexpr Grid GridOf(const DigestArgs& args) { return Grid{.x = BlocksFor(args.bytes, 64)}; }
// Rows along x: blocks that run together share a tile of weights. Valid where
// DenseFits.
constexpr Grid GridOf(const DenseArgs& args) {
  return Grid{.x = static_cast<unsigned>(Quotient(args.rows, kDenseTileRows)),
              .y = static_cast<unsigned>(Quotient(args.outputs, kDenseTileColumns))};
}
constexpr bool DenseFits(const DenseArgs& args) {
  return args.rows <= kMaxGridX * kDenseTileRows && args.outputs <= kMaxGridY * kDenseTileColumns;
}
constexpr Grid GridOf(const SoftmaxRowsArgs& args) {
  return Grid{.x = static_cast<unsigned>(std::clamp<uint64_t>(args.rows, 1, kEnoughBlocks))};
}

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_GRID_H_

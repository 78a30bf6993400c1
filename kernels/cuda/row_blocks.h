// The arguments of baton_pack and baton_unpack for any number of row blocks.
//
// Thread safety: pure functions.
#ifndef BATON_KERNELS_CUDA_ROW_BLOCKS_H_
#define BATON_KERNELS_CUDA_ROW_BLOCKS_H_

#include <cstdint>
#include <span>

#include "kernels/cuda/kernel_args.h"

namespace baton::kernels::cuda {

// The rows of one request in device memory. May be empty.
struct DeviceRows {
  uint64_t address = 0;
  uint64_t rows = 0;
};

// Calls launch(const RowBlocksArgs&) -> bool for as many blocks at a time as one
// launch takes, in order, until it says false. Empty blocks take no place, and
// nothing is called where all are.
template <class Launch>
void ForEachLaunch(std::span<const DeviceRows> blocks, uint64_t row_bytes, uint64_t batch,
                   Launch launch) {
  RowBlocksArgs args;
  args.batch = batch;
  args.row_bytes = row_bytes;
  if (row_bytes == 0) return;
  uint64_t first_row = 0;
  for (const DeviceRows& block : blocks) {
    if (block.rows == 0) continue;
    args.blocks[args.block_count++] = {block.address, first_row, block.rows};
    first_row += block.rows;
    if (args.block_count == kMaxRowBlocks) {
      if (!launch(args)) return;
      args.block_count = 0;
    }
  }
  if (args.block_count > 0) launch(args);
}

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_ROW_BLOCKS_H_

// baton_dense. Reference: kernels/dense.h (MatMulBias, then Relu).
//
// A block computes a tile of 64 rows by 64 columns, a thread 4 by 4 of it. Tiles
// of the input and of the weights pass through shared memory, 16 inputs at a
// time. Each output is the left-to-right sum that the reference computes, with
// fused multiply-adds.
//
// Ragged edges: what lies outside is loaded as zero, for both factors where the
// inputs end, so that no infinity of the other factor makes a NaN of it; and
// rows and columns outside are computed but not stored.
#include "kernels/cuda/kernel_args.h"
#include "kernels/dense.h"

namespace baton::kernels::cuda {

inline constexpr unsigned kTileInputs = 16;
inline constexpr unsigned kThreadRows = 4;
inline constexpr unsigned kThreadColumns = 4;
inline constexpr unsigned kThreadsAcross = kDenseTileColumns / kThreadColumns;
// A row of the input's tile: padded, so that the threads that store a column do
// not all meet in one memory bank, and still aligned for loads of four.
inline constexpr unsigned kInputPitch = kDenseTileRows + 4;

static_assert(kThreadsAcross * (kDenseTileRows / kThreadRows) == kBlockThreads);
static_assert(kTileInputs * kDenseTileColumns == 4 * kBlockThreads, "each thread loads one float4");
static_assert(kDenseTileRows * kTileInputs % kBlockThreads == 0);
static_assert(kDenseLane % 4 == 0, "a float4 of packed weights never crosses the end of a row");

struct DenseTiles {
  alignas(16) float inputs[kTileInputs][kInputPitch];         // transposed: [input][row]
  alignas(16) float weights[kTileInputs][kDenseTileColumns];  // [input][column]
};

// Neighbouring threads read neighbouring inputs of one row.
__device__ inline void LoadInputTile(const DenseArgs& args, uint64_t first_row,
                                     uint64_t first_input, DenseTiles& tiles) {
  const auto* const from = reinterpret_cast<const float*>(args.input);
#pragma unroll
  for (unsigned i = 0; i < kDenseTileRows * kTileInputs / kBlockThreads; ++i) {
    const unsigned element = threadIdx.x + i * kBlockThreads;
    const unsigned input = element % kTileInputs;
    const unsigned row = element / kTileInputs;
    const bool inside = first_row + row < args.rows && first_input + input < args.inputs;
    tiles.inputs[input][row] =
        inside ? from[(first_row + row) * args.inputs + first_input + input] : 0.0f;
  }
}

// Neighbouring threads read neighbouring columns, four at a time.
__device__ inline void LoadWeightTile(const DenseArgs& args, uint64_t first_column,
                                      uint64_t first_input, DenseTiles& tiles) {
  const auto* const from = reinterpret_cast<const float*>(args.weights);
  const uint64_t stride = PaddedColumns(args.outputs);
  const unsigned input = threadIdx.x / kThreadsAcross;
  const unsigned column = threadIdx.x % kThreadsAcross * 4;
  float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (first_input + input < args.inputs && first_column + column < stride) {
    four = *reinterpret_cast<const float4*>(from + (first_input + input) * stride + first_column +
                                            column);
  }
  *reinterpret_cast<float4*>(&tiles.weights[input][column]) = four;
}

__device__ inline void MultiplyTiles(const DenseTiles& tiles, unsigned row, unsigned column,
                                     float (&sums)[kThreadRows][kThreadColumns]) {
#pragma unroll
  for (unsigned input = 0; input < kTileInputs; ++input) {
    const float4 x = *reinterpret_cast<const float4*>(&tiles.inputs[input][row]);
    const float4 w = *reinterpret_cast<const float4*>(&tiles.weights[input][column]);
    const float xs[kThreadRows] = {x.x, x.y, x.z, x.w};
    const float ws[kThreadColumns] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (unsigned r = 0; r < kThreadRows; ++r) {
#pragma unroll
      for (unsigned c = 0; c < kThreadColumns; ++c) sums[r][c] = fmaf(xs[r], ws[c], sums[r][c]);
    }
  }
}

__device__ inline void StoreTile(const DenseArgs& args, uint64_t first_row, uint64_t first_column,
                                 const float (&sums)[kThreadRows][kThreadColumns]) {
  auto* const to = reinterpret_cast<float*>(args.output);
#pragma unroll
  for (unsigned r = 0; r < kThreadRows; ++r) {
    if (first_row + r >= args.rows) break;
#pragma unroll
    for (unsigned c = 0; c < kThreadColumns; ++c) {
      if (first_column + c >= args.outputs) break;
      float value = sums[r][c];
      // Not fmaxf, which would make a zero of NaN.
      if (args.activation == Activation::kRelu && value < 0.0f) value = 0.0f;
      to[(first_row + r) * args.outputs + first_column + c] = value;
    }
  }
}

}  // namespace baton::kernels::cuda

extern "C" __global__ void __launch_bounds__(baton::kernels::cuda::kBlockThreads)
    baton_dense(const __grid_constant__ baton::kernels::cuda::DenseArgs args) {
  using namespace baton::kernels::cuda;
  __shared__ DenseTiles tiles;
  const uint64_t tile_row = static_cast<uint64_t>(blockIdx.x) * kDenseTileRows;
  const uint64_t tile_column = static_cast<uint64_t>(blockIdx.y) * kDenseTileColumns;
  const unsigned row = threadIdx.x / kThreadsAcross * kThreadRows;
  const unsigned column = threadIdx.x % kThreadsAcross * kThreadColumns;

  const auto* const bias = reinterpret_cast<const float*>(args.bias);
  float sums[kThreadRows][kThreadColumns];
#pragma unroll
  for (unsigned c = 0; c < kThreadColumns; ++c) {
    const uint64_t at = tile_column + column + c;
    const float first = at < args.outputs ? bias[at] : 0.0f;
#pragma unroll
    for (unsigned r = 0; r < kThreadRows; ++r) sums[r][c] = first;
  }
  // No thread leaves early: all take part in loading and in the barriers.
  for (uint64_t input = 0; input < args.inputs; input += kTileInputs) {
    LoadInputTile(args, tile_row, input, tiles);
    LoadWeightTile(args, tile_column, input, tiles);
    __syncthreads();
    MultiplyTiles(tiles, row, column, sums);
    __syncthreads();  // before the next tile overwrites this one
  }
  StoreTile(args, tile_row + row, tile_column + column, sums);
}

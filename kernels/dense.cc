#include "kernels/dense.h"

#include <algorithm>
#include <cstring>

#include "kernels/x86_levels.h"

namespace baton::kernels {
namespace {

// Rows that share one pass over the weights: as many as there are registers for at every level, and
// as many as keep a wide multiplier busy, which begins a sum's next step before the last has ended.
constexpr size_t kRowTile = 4;
constexpr size_t kWideRowTile = 8;

// Some rows of the input with 16 columns of the weights. Columns are the vector lanes, so that no
// sum is reordered: each output is the same left-to-right sum whatever the width.
struct Tile {
  const float* inputs[kWideRowTile];
  float* outputs[kWideRowTile];  // each has room for all columns of the tile
  const float* weights;
  const float* bias;
  size_t count;   // of inputs
  size_t stride;  // floats from one row of the weights to the next
};
using SumTile = void(const Tile& tile);

// Loops that the compiler makes vectors of: it has the registers for them at every level, where it
// would keep vectors wider than the level's own in memory.
BATON_AVX2_OR_ANY
void SumTileAny(const Tile& tile) {
  float sums[kRowTile][kDenseLane];
  for (auto& sum : sums) std::memcpy(&sum, tile.bias, sizeof(sum));
  const float* weights = tile.weights;
  for (size_t in = 0; in < tile.count; ++in, weights += tile.stride) {
    for (size_t r = 0; r < kRowTile; ++r) {
      const float input = tile.inputs[r][in];
      for (size_t lane = 0; lane < kDenseLane; ++lane) sums[r][lane] += input * weights[lane];
    }
  }
  for (size_t r = 0; r < kRowTile; ++r) std::memcpy(tile.outputs[r], &sums[r], sizeof(sums[r]));
}

#ifdef BATON_FOR_X86_LEVELS
// A register for 16 columns of a row: of loops the compiler makes vectors of half the width here.
using Lanes __attribute__((vector_size(kDenseLane * sizeof(float)))) = float;

// kLanes times 16 columns. With two each input is fetched once for both: with one the fetches, not
// the multiplications, are what it waits for.
template <size_t kRows, size_t kLanes>
BATON_AVX512 void SumTileAvx512(const Tile& tile) {
  Lanes sums[kRows][kLanes];
  // Register by register: of arrays of them the compiler keeps all in memory.
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (size_t i = 0; i < kLanes; ++i) {
      std::memcpy(&sums[r][i], tile.bias + i * kDenseLane, sizeof(Lanes));
    }
  }
  const float* weights = tile.weights;
  for (size_t in = 0; in < tile.count; ++in, weights += tile.stride) {
    Lanes lanes[kLanes];
#pragma GCC unroll 2
    for (size_t i = 0; i < kLanes; ++i) {
      std::memcpy(&lanes[i], weights + i * kDenseLane, sizeof(Lanes));
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const Lanes input = tile.inputs[r][in] - Lanes{};
#pragma GCC unroll 2
      for (size_t i = 0; i < kLanes; ++i) sums[r][i] += input * lanes[i];
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (size_t i = 0; i < kLanes; ++i) {
      std::memcpy(tile.outputs[r] + i * kDenseLane, &sums[r][i], sizeof(Lanes));
    }
  }
}

bool HasWideTiles() { return __builtin_cpu_supports("avx512f"); }
SumTile* WidestSumTile() { return HasWideTiles() ? SumTileAvx512<kRowTile, 1> : SumTileAny; }
// Of kWideRowTile rows, and of as many with twice the columns; nullptr where the registers are not
// there.
SumTile* WideRowsSumTile() { return HasWideTiles() ? SumTileAvx512<kWideRowTile, 1> : nullptr; }
SumTile* WideSumTile() { return HasWideTiles() ? SumTileAvx512<kWideRowTile, 2> : nullptr; }
#else
SumTile* WidestSumTile() { return SumTileAny; }
SumTile* WideRowsSumTile() { return nullptr; }
SumTile* WideSumTile() { return nullptr; }
#endif

}  // namespace

void PackWeights(std::span<const float> weights, size_t outputs, size_t inputs,
                 std::span<float> to) {
  const size_t stride = PaddedColumns(outputs);
  std::fill(to.begin(), to.end(), 0.0f);
  for (size_t out = 0; out < outputs; ++out) {
    for (size_t in = 0; in < inputs; ++in) to[in * stride + out] = weights[out * inputs + in];
  }
}

void MatMulBias(const MatMulBiasArgs& args) {
  static SumTile* const narrow_tile = WidestSumTile();
  static SumTile* const wide_rows_tile = WideRowsSumTile();
  static SumTile* const wide_tile = WideSumTile();
  Tile tile = {.inputs = {},
               .outputs = {},
               .weights = nullptr,
               .bias = nullptr,
               .count = args.inputs,
               .stride = PaddedColumns(args.outputs)};
  float edge[kWideRowTile][kDenseLane];  // of columns that are fewer than 16
  size_t rows = 0;
  for (size_t row = 0; row < args.rows; row += rows) {
    const bool wide = wide_tile != nullptr && args.rows - row > kRowTile;
    const size_t most = wide ? kWideRowTile : kRowTile;
    rows = std::min(most, args.rows - row);
    // Rows past the end repeat the last one: the inner loop has no branch.
    const auto row_of = [&](size_t r) { return row + std::min(r, rows - 1); };
    for (size_t r = 0; r < most; ++r) tile.inputs[r] = args.input + row_of(r) * args.inputs;
    size_t columns = 0;
    for (size_t column = 0; column < args.outputs; column += columns) {
      const size_t left = args.outputs - column;
      const bool pair = wide && left >= 2 * kDenseLane;
      columns = pair ? 2 * kDenseLane : std::min(kDenseLane, left);
      const bool whole = columns >= kDenseLane;
      float* const output = args.output + column;
      tile.weights = args.weights + column;
      tile.bias = args.bias + column;
      for (size_t r = 0; r < most; ++r) {
        tile.outputs[r] = whole ? output + row_of(r) * args.outputs : edge[r];
      }
      (pair ? wide_tile : wide ? wide_rows_tile : narrow_tile)(tile);
      for (size_t r = 0; r < rows && !whole; ++r) {
        std::memcpy(output + (row + r) * args.outputs, edge[r], columns * sizeof(float));
      }
    }
  }
}

BATON_AVX2_OR_ANY
void Relu(std::span<float> values) {
  for (float& value : values) value = value < 0.0f ? 0.0f : value;
}

}  // namespace baton::kernels

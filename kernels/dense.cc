#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// One binary for every x86-64, with a version for what CPUs have. By levels, not by models: a CPU
// counts as of a model only if it is that very one, and any newer one would be left with the
// narrowest version. Not under sanitizers, whose runtime is not up yet when the dynamic loader
// makes the choice.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define BATON_FOR_X86_LEVELS 1
#define BATON_AVX2_OR_ANY __attribute__((target_clones("arch=x86-64-v3", "default")))
#define BATON_AVX512 __attribute__((target("avx512f")))
#else
#define BATON_AVX2_OR_ANY
#endif

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
  const float* weights;
  const float* bias;
  size_t count;   // of inputs
  size_t stride;  // floats from one row of the weights to the next
};
using Sums = float[kWideRowTile][kDenseLane];
using SumTile = void(const Tile& tile, Sums& sums);

// Loops that the compiler makes vectors of: it has the registers for them at every level, where it
// would keep vectors wider than the level's own in memory.
BATON_AVX2_OR_ANY
void SumTileAny(const Tile& tile, Sums& result) {
  float sums[kRowTile][kDenseLane];
  for (auto& sum : sums) std::memcpy(&sum, tile.bias, sizeof(sum));
  const float* weights = tile.weights;
  for (size_t in = 0; in < tile.count; ++in, weights += tile.stride) {
    for (size_t r = 0; r < kRowTile; ++r) {
      const float input = tile.inputs[r][in];
      for (size_t lane = 0; lane < kDenseLane; ++lane) sums[r][lane] += input * weights[lane];
    }
  }
  std::memcpy(&result, &sums, sizeof(sums));
}

#ifdef BATON_FOR_X86_LEVELS
// One register a row: of loops the compiler makes vectors of half the width here.
using Lanes __attribute__((vector_size(kDenseLane * sizeof(float)))) = float;

template <size_t kRows>
BATON_AVX512 void SumTileAvx512(const Tile& tile, Sums& result) {
  Lanes sums[kRows];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) std::memcpy(&sums[r], tile.bias, sizeof(Lanes));
  const float* weights = tile.weights;
  for (size_t in = 0; in < tile.count; ++in, weights += tile.stride) {
    Lanes lanes;
    std::memcpy(&lanes, weights, sizeof(Lanes));
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) sums[r] += tile.inputs[r][in] * lanes;
  }
  std::memcpy(&result, &sums, sizeof(sums));
}

bool HasWideTile() { return __builtin_cpu_supports("avx512f"); }
SumTile* WidestSumTile() { return HasWideTile() ? SumTileAvx512<kRowTile> : SumTileAny; }
// Of kWideRowTile rows; nullptr where the registers are not there.
SumTile* WideRowsSumTile() { return HasWideTile() ? SumTileAvx512<kWideRowTile> : nullptr; }
#else
SumTile* WidestSumTile() { return SumTileAny; }
SumTile* WideRowsSumTile() { return nullptr; }
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
  static SumTile* const wide_tile = WideRowsSumTile();
  Tile tile = {.inputs = {},
               .weights = nullptr,
               .bias = nullptr,
               .count = args.inputs,
               .stride = PaddedColumns(args.outputs)};
  size_t rows = 0;
  for (size_t row = 0; row < args.rows; row += rows) {
    const bool wide = wide_tile != nullptr && args.rows - row > kRowTile;
    const size_t most = wide ? kWideRowTile : kRowTile;
    SumTile* const sum_tile = wide ? wide_tile : narrow_tile;
    rows = std::min(most, args.rows - row);
    // Rows past the end repeat the last one: the inner loop has no branch.
    for (size_t r = 0; r < most; ++r) {
      tile.inputs[r] = args.input + (row + std::min(r, rows - 1)) * args.inputs;
    }
    for (size_t column = 0; column < args.outputs; column += kDenseLane) {
      tile.weights = args.weights + column;
      tile.bias = args.bias + column;
      Sums sums;
      sum_tile(tile, sums);
      const size_t lanes = std::min(kDenseLane, args.outputs - column);
      for (size_t r = 0; r < rows; ++r) {
        float* const output = args.output + (row + r) * args.outputs + column;
        // Of a size that the compiler knows, where it can be: one store each.
        if (lanes == kDenseLane) {
          std::memcpy(output, &sums[r], sizeof(sums[r]));
        } else {
          std::memcpy(output, &sums[r], lanes * sizeof(float));
        }
      }
    }
  }
}

void Relu(std::span<float> values) {
  for (float& value : values) value = value < 0.0f ? 0.0f : value;
}

void SoftmaxRows(std::span<float> values, size_t columns) {
  for (size_t start = 0; start < values.size(); start += columns) {
    const std::span<float> row = values.subspan(start, columns);
    const float largest = *std::max_element(row.begin(), row.end());
    float sum = 0.0f;
    for (float& value : row) {
      value = std::exp(value - largest);
      sum += value;
    }
    for (float& value : row) value /= sum;
  }
}

}  // namespace baton::kernels

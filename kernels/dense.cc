#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// One binary for every x86-64: the loader picks the widest version the CPU has. By levels, not by
// models: a CPU counts as of a model only if it is that very one, and any newer one would be left
// with the narrowest version. Not under sanitizers, whose runtime is not up yet when the choice is
// made.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define BATON_WIDEST_CPU \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BATON_WIDEST_CPU
#endif

namespace baton::kernels {
namespace {

constexpr size_t kRowTile = 4;  // rows that share one pass over the weights

// As many lanes as a row of packed weights is padded to; the compiler splits it
// into the registers that the CPU has.
using Lanes __attribute__((vector_size(kDenseLane * sizeof(float)))) = float;

}  // namespace

void PackWeights(std::span<const float> weights, size_t outputs, size_t inputs,
                 std::span<float> to) {
  const size_t stride = PaddedColumns(outputs);
  std::fill(to.begin(), to.end(), 0.0f);
  for (size_t out = 0; out < outputs; ++out) {
    for (size_t in = 0; in < inputs; ++in) to[in * stride + out] = weights[out * inputs + in];
  }
}

// Columns are the vector lanes, so that no sum is reordered: each output is
// the same left-to-right sum whatever the width.
BATON_WIDEST_CPU
void MatMulBias(const MatMulBiasArgs& args) {
  const size_t stride = PaddedColumns(args.outputs);
  for (size_t row = 0; row < args.rows; row += kRowTile) {
    const size_t rows = std::min(kRowTile, args.rows - row);
    // Rows past the end repeat the last one: the inner loop has no branch.
    const float* inputs[kRowTile];
    for (size_t r = 0; r < kRowTile; ++r) {
      inputs[r] = args.input + (row + std::min(r, rows - 1)) * args.inputs;
    }
    for (size_t column = 0; column < args.outputs; column += kDenseLane) {
      Lanes sums[kRowTile];
      for (Lanes& sum : sums) std::memcpy(&sum, args.bias + column, sizeof(Lanes));
      for (size_t in = 0; in < args.inputs; ++in) {
        Lanes weights;
        std::memcpy(&weights, args.weights + in * stride + column, sizeof(Lanes));
        for (size_t r = 0; r < kRowTile; ++r) sums[r] += inputs[r][in] * weights;
      }
      const size_t lanes = std::min(kDenseLane, args.outputs - column);
      for (size_t r = 0; r < rows; ++r) {
        std::memcpy(args.output + (row + r) * args.outputs + column, &sums[r],
                    lanes * sizeof(float));
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

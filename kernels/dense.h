// The layers of the built-in dense model, float32.
//
// These are the CPU reference: a version for another device takes the same
// arguments (its addresses, and a stream) and is checked against these.
//
// Thread safety: pure functions; they touch only what they are given, and
// allocate nothing. Inputs and outputs may not overlap unless said so.
#ifndef BATON_KERNELS_DENSE_H_
#define BATON_KERNELS_DENSE_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace baton::kernels {

// Columns of packed weights are padded to a multiple of this many floats, and
// so is the bias.
inline constexpr size_t kDenseLane = 16;

constexpr size_t PaddedColumns(size_t columns) {
  return (columns + kDenseLane - 1) / kDenseLane * kDenseLane;
}

// Weights as MatMulBias reads them: [inputs, PaddedColumns(outputs)], row-major,
// from [outputs, inputs], as safetensors files have them. The padding is zero.
// `to` has inputs * PaddedColumns(outputs) elements.
void PackWeights(std::span<const float> weights, size_t outputs, size_t inputs,
                 std::span<float> to);

struct MatMulBiasArgs {
  const float* input = nullptr;    // [rows, inputs], dense
  const float* weights = nullptr;  // packed, see PackWeights
  const float* bias = nullptr;     // [PaddedColumns(outputs)], padded
  float* output = nullptr;         // [rows, outputs], dense
  size_t rows = 0;
  size_t inputs = 0;
  size_t outputs = 0;
};

// output = input x weights + bias.
// Cost: rows * inputs * outputs multiply-adds; reads the weights once for each
// four rows, with AVX-512 for each eight.
void MatMulBias(const MatMulBiasArgs& args);

// max(x, 0) in place. NaN stays NaN.
void Relu(std::span<float> values);

// Softmax over each row of [values.size() / columns, columns], in place. The
// row's maximum is subtracted first, so that nothing overflows. What a row
// becomes does not depend on the rows beside it.
// values.size() must be a multiple of `columns`, which is more than 0.
void SoftmaxRows(std::span<float> values, size_t columns);

}  // namespace baton::kernels

#endif  // BATON_KERNELS_DENSE_H_

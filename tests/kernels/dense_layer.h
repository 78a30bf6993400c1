// A dense layer to compute in tests, with what is right for it.
#ifndef BATON_TESTS_KERNELS_DENSE_LAYER_H_
#define BATON_TESTS_KERNELS_DENSE_LAYER_H_

#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/cuda/kernel_args.h"
#include "kernels/dense.h"
#include "tests/kernels/random_floats.h"

namespace baton::kernels::cuda {

// A layer with random numbers, as the host has it.
struct Layer {
  Layer(size_t rows, size_t inputs, size_t outputs)
      : rows(rows),
        inputs(inputs),
        outputs(outputs),
        input(RandomFloats(rows * inputs, 1)),
        weights(RandomFloats(outputs * inputs, 2)),
        bias(RandomFloats(outputs, 3)) {
    bias.resize(PaddedColumns(outputs));
  }

  std::vector<float> PackedWeights() const {
    std::vector<float> packed(inputs * PaddedColumns(outputs));
    PackWeights(weights, outputs, inputs, packed);
    return packed;
  }
  std::vector<float> Reference(Activation activation) const {
    const auto packed = PackedWeights();
    std::vector<float> output(rows * outputs);
    MatMulBias({.input = input.data(),
                .weights = packed.data(),
                .bias = bias.data(),
                .output = output.data(),
                .rows = rows,
                .inputs = inputs,
                .outputs = outputs});
    if (activation == Activation::kRelu) Relu(output);
    return output;
  }
  // The tolerance of kernels/DESIGN.md for one output: each side may be off the
  // exact sum by (inputs + 1) half units in the last place of the magnitudes.
  double Tolerance(size_t row, size_t out) const {
    double magnitudes = std::fabs(bias[out]);
    for (size_t in = 0; in < inputs; ++in) {
      magnitudes += std::fabs(double{input[row * inputs + in]} * weights[out * inputs + in]);
    }
    return 2 * static_cast<double>(inputs + 1) * 0x1p-24 * magnitudes;
  }

  size_t rows;
  size_t inputs;
  size_t outputs;
  std::vector<float> input;    // [rows, inputs]
  std::vector<float> weights;  // [outputs, inputs]
  std::vector<float> bias;     // padded
};

}  // namespace baton::kernels::cuda

#endif  // BATON_TESTS_KERNELS_DENSE_LAYER_H_

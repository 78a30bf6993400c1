#include <algorithm>
#include <span>
#include <utility>

#include "kernels/dense.h"
#include "loader/dense/dense_layers.h"

namespace baton::loader {
namespace {

void Activate(Activation activation, std::span<float> values, size_t columns) {
  switch (activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      kernels::Relu(values);
      break;
    case Activation::kSoftmax:
      kernels::SoftmaxRows(values, columns);
      break;
  }
}

class OnHost final : public DenseLayers {
 public:
  OnHost(const DensePlan& plan, float* region, std::unique_ptr<kernels::OpenBlas> open_blas)
      : plan_(plan), region_(region), open_blas_(std::move(open_blas)) {}

  absl::Status Run(const DenseInput& from, float* output, size_t rows) override {
    const float* const input = from.host;
    const size_t columns = plan_.layers.front().inputs;
    const size_t classes = plan_.layers.back().outputs;
    for (size_t row = 0; row < rows; row += plan_.row_tile) {
      RunTile(input + row * columns, output + row * classes, std::min(plan_.row_tile, rows - row));
    }
    return absl::OkStatus();
  }

 private:
  // One tile of rows through all layers.
  void RunTile(const float* input, float* output, size_t rows) {
    for (size_t i = 0; i < plan_.layers.size(); ++i) {
      const DenseLayer& layer = plan_.layers[i];
      const bool last = i + 1 == plan_.layers.size();
      float* to = last ? output : region_ + plan_.scratch_offsets[i % 2];
      MatMulBias({.input = input,
                  .weights = region_ + layer.weight_offset,
                  .bias = region_ + layer.bias_offset,
                  .output = to,
                  .rows = rows,
                  .inputs = layer.inputs,
                  .outputs = layer.outputs});
      Activate(layer.activation, {to, rows * layer.outputs}, layer.outputs);
      input = to;
    }
  }

  void MatMulBias(const kernels::MatMulBiasArgs& args) const {
    if (open_blas_ != nullptr && kernels::OpenBlas::Pays(args.rows, args.inputs, args.outputs)) {
      open_blas_->MatMulBias(args);
    } else {
      kernels::MatMulBias(args);
    }
  }

  const DensePlan& plan_;
  float* const region_;  // on the host device an address is a pointer
  const std::unique_ptr<kernels::OpenBlas> open_blas_;
};

}  // namespace

std::unique_ptr<DenseLayers> HostDenseLayers(const DensePlan& plan, float* region,
                                             std::unique_ptr<kernels::OpenBlas> open_blas) {
  return std::make_unique<OnHost>(plan, region, std::move(open_blas));
}

}  // namespace baton::loader

#include <algorithm>
#include <span>

#include "baton/model.h"

namespace {

class Tripler final : public baton::Model {
 public:
  explicit Tripler(const baton::ModelContext&) {}

  baton::Signature signature() const override {
    return {.inputs = {{"x", baton::DType::kFloat32, {baton::kDynamicDim}}},
            .outputs = {{"y", baton::DType::kFloat32, {baton::kDynamicDim}}}};
  }

  void Run(std::span<const baton::TensorView> inputs, baton::Outputs& outputs) override {
    const std::span<const float> x = inputs[0].As<float>();
    const std::span<float> y = outputs.Allocate<float>(0, inputs[0].shape);
    std::transform(x.begin(), x.end(), y.begin(), [](float value) { return 3 * value; });
  }
};

}  // namespace

BATON_REGISTER_MODEL(Tripler)

// A model that does nothing: what is left is the runtime.
#include "baton/model.h"

namespace {

class NullModel final : public baton::Model {
 public:
  explicit NullModel(const baton::ModelContext&) {}
  baton::Signature signature() const override {
    return {.inputs = {{"x", baton::DType::kUInt8, {baton::kDynamicDim}}},
            .outputs = {{"y", baton::DType::kUInt8, {8}}}};
  }
  void Run(std::span<const baton::TensorView>, baton::Outputs& outputs) override {
    outputs.Allocate<uint8_t>(0, {8})[0] = 1;
  }
};

}  // namespace

BATON_REGISTER_MODEL(NullModel)

// A model that does nothing: what is left is the runtime. Its option
// `output_bytes` says how much it would give (8).
#include <cstdint>
#include <string>

#include "baton/model.h"

namespace {

class NullModel final : public baton::Model {
 public:
  explicit NullModel(const baton::ModelContext& context)
      : output_bytes_(std::stoll(context.Option("output_bytes", "8"))) {}
  baton::Signature signature() const override {
    return {.inputs = {{"x", baton::DType::kUInt8, {baton::kDynamicDim}}},
            .outputs = {{"y", baton::DType::kUInt8, {output_bytes_}}}};
  }
  void Run(std::span<const baton::TensorView>, baton::Outputs& outputs) override {
    outputs.Allocate<uint8_t>(0, {output_bytes_})[0] = 1;
  }

 private:
  const int64_t output_bytes_;
};

}  // namespace

BATON_REGISTER_MODEL(NullModel)

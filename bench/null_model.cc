// A model that does nothing: what is left is the runtime. Its option
// `output_bytes` says how much it would give (8). `generate` gives that so many
// times.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "baton/model.h"

namespace {

class Chunks final : public baton::ModelStream {
 public:
  Chunks(int64_t count, int64_t bytes) : left_(count), bytes_(bytes) {}
  bool Next(baton::Outputs& outputs) override {
    if (left_ == 0) return false;
    outputs.Allocate<uint8_t>(0, {bytes_})[0] = 1;
    --left_;
    return true;
  }

 private:
  int64_t left_;
  const int64_t bytes_;
};

class NullModel final : public baton::Model {
 public:
  explicit NullModel(const baton::ModelContext& context)
      : output_bytes_(std::stoll(context.Option("output_bytes", "8"))) {}
  std::vector<baton::Method> methods() const override {
    const baton::TensorSpec output{
        .name = "y", .dtype = baton::DType::kUInt8, .shape = {output_bytes_}};
    return {{.name = "predict",
             .signature = {.inputs = {{.name = "x",
                                       .dtype = baton::DType::kUInt8,
                                       .shape = {baton::kDynamicDim}}},
                           .outputs = {output}}},
            {.name = "generate",
             .signature = {.inputs = {{.name = "count",
                                       .dtype = baton::DType::kInt64,
                                       .shape = {},
                                       .content = baton::Content::kScalar}},
                           .outputs = {output}},
             .streams_outputs = true}};
  }
  void RunMethod(size_t, std::span<const baton::TensorView>, baton::Outputs& outputs) override {
    outputs.Allocate<uint8_t>(0, {output_bytes_})[0] = 1;
  }
  std::unique_ptr<baton::ModelStream> StartStream(size_t, std::span<const baton::TensorView> inputs,
                                                  baton::Items&) override {
    return std::make_unique<Chunks>(inputs[0].As<int64_t>()[0], output_bytes_);
  }

 private:
  const int64_t output_bytes_;
};

}  // namespace

BATON_REGISTER_MODEL(NullModel)

// y = scale * x + shift. The scale is an option of config.yaml and lies in device
// memory like a real model's weights; the shift is a secret, AFFINE_SHIFT, so
// that a reload can be seen in the results.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "baton/model.h"

namespace {

float ToNumber(const std::string& what, const std::string& text) {
  try {
    return std::stof(text);
  } catch (const std::exception&) {
    // The value is not repeated: it may be a secret.
    throw std::invalid_argument(what + " is not a number");
  }
}

class AffineModel final : public baton::Model {
 public:
  // Host memory only: the worker before this one may still hold the device.
  explicit AffineModel(const baton::ModelContext& context)
      : scale_(ToNumber("option 'scale'", context.Option("scale", "1"))) {
    // Secrets are in the environment before a model is made.
    if (const char* shift = std::getenv("AFFINE_SHIFT")) {
      shift_ = ToNumber("secret AFFINE_SHIFT", shift);
    }
  }

  baton::Signature signature() const override {
    return {.inputs = {{"x", baton::DType::kFloat32, {baton::kDynamicDim}}},
            .outputs = {{"y", baton::DType::kFloat32, {baton::kDynamicDim}},
                        {"shift", baton::DType::kFloat32, {}}}};
  }

  uint64_t device_bytes() const override { return sizeof(scale_); }

  void Upload(const baton::DeviceMemory& memory) override {
    memory.Write(0, std::as_bytes(std::span(&scale_, 1)));
    // On the device "host" an address is a pointer.
    device_scale_ = reinterpret_cast<const float*>(memory.address());
  }

  void Run(std::span<const baton::TensorView> inputs, baton::Outputs& outputs) override {
    const std::span<const float> x = inputs[0].As<float>();
    const std::span<float> y = outputs.Allocate<float>(0, inputs[0].shape);
    outputs.Allocate<float>(1, {})[0] = shift_;
    for (size_t i = 0; i < x.size(); ++i) y[i] = *device_scale_ * x[i] + shift_;
  }

 private:
  float scale_;
  float shift_ = 0;
  const float* device_scale_ = nullptr;
};

}  // namespace

BATON_REGISTER_MODEL(AffineModel)

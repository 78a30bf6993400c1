// What a dense model computes, worked out from config and file: the layers in
// order, and where each one's weights lie on the device.
#ifndef BATON_LOADER_DENSE_DENSE_PLAN_H_
#define BATON_LOADER_DENSE_DENSE_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "loader/model_config.h"
#include "loader/safetensors.h"

namespace baton::loader {

enum class Activation { kNone, kRelu, kSoftmax };

// Rows of a batch that pass through all layers together: what the scratch
// memory holds. A GPU is busy only with many.
inline constexpr size_t kDenseRowTile = 32;
inline constexpr size_t kGpuDenseRowTile = 512;

struct DenseLayer {
  std::string weight;               // tensor [outputs, inputs], float32
  std::optional<std::string> bias;  // tensor [outputs], float32; zeros without one
  Activation activation = Activation::kNone;
  size_t inputs = 0;
  size_t outputs = 0;
  size_t weight_offset = 0;  // in floats, in the device region: packed weights
  size_t bias_offset = 0;    // padded bias
};

// Device region, in floats: the layers' packed weights and biases, then two
// scratch buffers of row_tile rows each; on a GPU they hold inputs and results,
// too, and room for a digest follows. Every piece starts at a multiple of 128
// bytes.
struct DensePlan {
  Signature signature;
  std::vector<DenseLayer> layers;
  size_t weight_floats = 0;  // what is staged and uploaded
  size_t row_tile = kDenseRowTile;
  size_t scratch_offsets[2] = {};
  size_t digest_offset = 0;  // on a GPU only
  size_t total_floats = 0;
};

// Layers come from the options `layers.N.{weight,bias,activation}`, or from
// tensors named layers.N.weight and layers.N.bias with `activations.N`.
// INVALID_ARGUMENT or NOT_FOUND names the file, and the tensor or option.
absl::StatusOr<DensePlan> PlanDenseModel(const ModelConfig& config, const SafetensorsFile& file);

}  // namespace baton::loader

#endif  // BATON_LOADER_DENSE_DENSE_PLAN_H_

// The built-in model: fully connected layers, float32, weights in a
// safetensors file, computed by kernels/ from the device region.
#ifndef BATON_LOADER_DENSE_DENSE_MODEL_H_
#define BATON_LOADER_DENSE_DENSE_MODEL_H_

#include <memory>

#include "absl/status/statusor.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::loader {

// Reads config.file and packs its weights in host memory; Upload copies them to
// the device region and frees the staged copy. What Run needs besides is
// scratch in the same region, so that it allocates nothing.
// Peak host memory: the packed weights and the largest tensor.
absl::StatusOr<std::unique_ptr<Model>> StageDenseModel(const ModelConfig& config);

}  // namespace baton::loader

#endif  // BATON_LOADER_DENSE_DENSE_MODEL_H_

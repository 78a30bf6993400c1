// A model of the onnx backend: any .onnx file, computed by ONNX Runtime.
#ifndef BATON_LOADER_ONNX_ONNX_MODEL_H_
#define BATON_LOADER_ONNX_ONNX_MODEL_H_

#include <memory>

#include "absl/status/statusor.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::loader {

// Opens config.file and derives the signature from it; config.signature, where
// given, must agree (onnx_signature.h says what that allows). The options are
// those of onnx_options.h. No exception escapes the model.
//
// Inputs are bound where they lie. Outputs are written in place where their
// shape is known before the run (fixed in the signature, or seen before for the
// same input shapes under `output_shapes: by_input_shapes`); else ONNX Runtime
// allocates them and they are copied once.
//
// device_bytes() is 0: on the host device ONNX Runtime computes from memory that
// it allocates itself (its CPU kernels repack weights into layouts of their own),
// so nothing of it could lie in Baton's arena. That memory goes with the worker's
// process, and is taken in the state `staged`.
//
// A model has no state between runs: a recurrent network takes and gives its
// state as tensors.
absl::StatusOr<std::unique_ptr<Model>> StageOnnxModel(const ModelConfig& config);

}  // namespace baton::loader

#endif  // BATON_LOADER_ONNX_ONNX_MODEL_H_

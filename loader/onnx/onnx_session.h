// ONNX Runtime, opened: its process-wide environment and one model's session.
#ifndef BATON_LOADER_ONNX_ONNX_SESSION_H_
#define BATON_LOADER_ONNX_ONNX_SESSION_H_

#include <onnxruntime_cxx_api.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "loader/model_config.h"
#include "loader/onnx/onnx_options.h"

namespace baton::loader {

// Opens config.file with a CPU session. Warnings of ONNX Runtime go to stderr
// with the model's name. NOT_FOUND, INVALID_ARGUMENT (not a model, or an invalid
// one) or UNIMPLEMENTED (an operator that this ONNX Runtime lacks), each with the
// file. Cost: reads and optimises the whole model.
absl::StatusOr<Ort::Session> OpenOnnxSession(const ModelConfig& config, const OnnxOptions& options);

// The status for an exception of ONNX Runtime: its class, and "what: message".
absl::Status StatusFromOnnx(const Ort::Exception& error, const std::string& what);

}  // namespace baton::loader

#endif  // BATON_LOADER_ONNX_ONNX_SESSION_H_

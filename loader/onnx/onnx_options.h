// What a model directory may say about ONNX Runtime, under `onnx:`.
#ifndef BATON_LOADER_ONNX_ONNX_OPTIONS_H_
#define BATON_LOADER_ONNX_ONNX_OPTIONS_H_

#include "absl/status/statusor.h"

#include "loader/model_config.h"

namespace baton::loader {

struct OnnxOptions {
  // `intra_op_threads`: threads that share one operator, 1..256. 1 computes on
  // the worker's serving thread and starts none.
  int intra_op_threads = 1;
  // `spin`: whether those threads burn CPU while they wait for work.
  bool spin = false;
  // `cpu_arena`: whether ONNX Runtime keeps scratch memory between runs. It
  // never shrinks; without it every run pays malloc and page faults.
  bool cpu_arena = true;
  // `output_shapes: by_input_shapes` promises that equal input shapes give
  // equal output shapes, so that outputs with dynamic dimensions are written in
  // place from the second request of a shape on. The default, `unknown`, costs
  // such outputs one copy.
  bool shapes_by_input_shapes = false;
};

// INVALID_ARGUMENT for an unknown key or a value out of range, with what to
// write instead.
absl::StatusOr<OnnxOptions> ParseOnnxOptions(const ModelConfig& config);

}  // namespace baton::loader

#endif  // BATON_LOADER_ONNX_ONNX_OPTIONS_H_

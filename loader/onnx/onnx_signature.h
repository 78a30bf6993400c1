// From what a .onnx file declares to a Baton signature.
#ifndef BATON_LOADER_ONNX_ONNX_SIGNATURE_H_
#define BATON_LOADER_ONNX_ONNX_SIGNATURE_H_

#include <onnxruntime_cxx_api.h>

#include <string>

#include "absl/status/statusor.h"

#include "baton/tensor.h"

namespace baton::loader {

// kInvalid for types that Baton does not carry: strings, complex numbers,
// float8, 4-bit integers.
DType DTypeFromOnnx(ONNXTensorElementDataType type);
ONNXTensorElementDataType OnnxFromDType(DType dtype);

// The signature of an open session, in the file's order; dynamic dimensions
// become kDynamicDim. UNIMPLEMENTED names the tensor that Baton cannot carry.
// ONNX Runtime does not tell a tensor of unknown rank from a scalar: such a
// tensor reads as a scalar, and config.yaml's signature may say its rank.
// Throws Ort::Exception.
absl::StatusOr<Signature> SignatureOfSession(const Ort::Session& session, const std::string& file);

// The signature to serve: `config`'s, when it agrees with `file`'s. It may order
// tensors differently, fix dynamic dimensions, give a rank where the file gives
// none, and leave outputs out (they are then not computed). Anything else is
// INVALID_ARGUMENT, which names the tensor and both sides.
absl::StatusOr<Signature> AgreeOnSignature(const Signature& file, const Signature& config,
                                           const std::string& file_name);

}  // namespace baton::loader

#endif  // BATON_LOADER_ONNX_ONNX_SIGNATURE_H_

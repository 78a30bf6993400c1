// A model in a shared library, behind the C interface of baton/model_abi.h.
#ifndef BATON_LOADER_NATIVE_NATIVE_MODEL_H_
#define BATON_LOADER_NATIVE_NATIVE_MODEL_H_

#include <memory>

#include "absl/status/statusor.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::loader {

// Opens config.file and constructs its model with the options that config.yaml
// has under native.options. The library knows its signature; config.signature,
// where given, must be equal. Errors of the model carry its code and text after
// "model 'name': ".
//
// Run adds to the model's own cost two indirect calls and no allocation.
absl::StatusOr<std::unique_ptr<Model>> StageNativeModel(const ModelConfig& config);

}  // namespace baton::loader

#endif  // BATON_LOADER_NATIVE_NATIVE_MODEL_H_

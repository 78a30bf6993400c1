// Which methods' requests can be put together to one call.
//
// Thread safety: pure functions.
#ifndef BATON_LOADER_BATCHABLE_H_
#define BATON_LOADER_BATCHABLE_H_

#include "absl/status/status.h"

#include "baton/tensor.h"
#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::loader {

// OK where the first dimension of every input and of every output is dynamic, so
// that rows of several requests make one tensor. INVALID_ARGUMENT names the tensor
// that stands in the way.
absl::Status CheckBatchable(const Method& method);

// Whether `config`'s batching is possible with this model. INVALID_ARGUMENT, with
// the file and what to write instead, where a method that is called once (does not
// stream) is not batchable, where there is none, and where the model's calls run on
// threads of their own.
absl::Status CheckBatching(const ModelConfig& config, const Model& model);

}  // namespace baton::loader

#endif  // BATON_LOADER_BATCHABLE_H_

// One run of the model before the first request.
#ifndef BATON_RUNTIME_WORKER_WARM_UP_H_
#define BATON_RUNTIME_WORKER_WARM_UP_H_

#include "absl/status/status.h"

#include "loader/model.h"

namespace baton::runtime {

// Runs the first method of `model`, unless it streams, on zeros of the signature's shapes, with 1
// for dimensions that each request chooses, so that what models do the first time (pages, lazy
// tables, kernels) is done before a request waits for it.
//
// An error says what the model said, and no more: a legal model may refuse
// zeros, or batches of 1, so the caller logs it and goes on.
absl::Status WarmUp(loader::Model& model);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_WARM_UP_H_

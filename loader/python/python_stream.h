// A call of a Python method that streams.
#ifndef BATON_LOADER_PYTHON_PYTHON_STREAM_H_
#define BATON_LOADER_PYTHON_PYTHON_STREAM_H_

#include <memory>
#include <span>

#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "loader/model.h"
#include "loader/python/method_plan.h"
#include "loader/python/model_errors.h"

namespace baton::python {

// Reads the inputs; the method itself is called by the first Next, since it may
// wait for items. All arguments must outlive the stream. Without the GIL.
absl::StatusOr<std::unique_ptr<loader::ModelStream>> StartPythonStream(
    const ModelName& model, const MethodPlan& plan, loader::CallContext& call,
    std::span<const TensorView> inputs, loader::ItemSource& items);

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_PYTHON_STREAM_H_

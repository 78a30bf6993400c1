#include "loader/batchable.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baton::loader {
namespace {

// Text, bytes, images and values have a first dimension of their own: its rows are
// not requests.
bool HasRows(const TensorSpec& spec) {
  return spec.content == Content::kTensor && !spec.shape.empty() && spec.shape[0] == kDynamicDim;
}

absl::Status CheckTensors(const Method& method, const char* kind,
                          const std::vector<TensorSpec>& specs) {
  const auto wrong =
      std::ranges::find_if(specs, [](const TensorSpec& spec) { return !HasRows(spec); });
  if (wrong == specs.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "requests of the method '", method.name, "' cannot be put together: the ", kind, " ",
      ToString(*wrong), wrong->content == Content::kTensor ? "" : " is no plain tensor and",
      " has no first dimension '?' that counts rows"));
}

}  // namespace

absl::Status CheckBatchable(const Method& method) {
  if (method.streams()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the method '", method.name, "' streams, and a stream is never batched"));
  }
  if (method.signature.inputs.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the method '", method.name, "' has no input whose rows could be counted"));
  }
  absl::Status inputs = CheckTensors(method, "input", method.signature.inputs);
  return inputs.ok() ? CheckTensors(method, "output", method.signature.outputs) : inputs;
}

absl::Status CheckBatching(const ModelConfig& config, const Model& model) {
  if (!config.batching.on()) return absl::OkStatus();
  const auto refuse = [&](const std::string& why, const char* instead) {
    return absl::InvalidArgumentError(absl::StrCat(config.directory,
                                                   "/config.yaml: batching: ", why, "; ", instead,
                                                   ", or leave 'batching' out"));
  };
  if (model.concurrent_calls()) {
    return refuse("calls of this model run at once, on threads of their own, and are not batched",
                  "let it have one thread (num_threads: 1)");
  }
  bool any = false;
  for (const Method& method : MethodsOf(model)) {
    if (method.streams()) continue;
    const absl::Status batchable = CheckBatchable(method);
    if (!batchable.ok()) {
      return refuse(std::string(batchable.message()),
                    "give every input and output of it a first dimension '?'");
    }
    any = true;
  }
  if (!any) return refuse("all methods of this model stream", "add one that is called once");
  return absl::OkStatus();
}

}  // namespace baton::loader

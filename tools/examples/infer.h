// How the examples run a model: by a function that the caller injects, so that
// the same code runs against a Baton server and, in tests, against a model in
// this process.
#ifndef BATON_TOOLS_EXAMPLES_INFER_H_
#define BATON_TOOLS_EXAMPLES_INFER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "baton/tensor.h"

namespace baton::examples {

// A result, copied out of the response that carried it.
struct OwnedTensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;
};

// Runs a model once: inputs in any order, outputs in the signature's. Waits for
// the answer.
using Infer =
    std::function<absl::StatusOr<std::vector<OwnedTensor>>(std::span<const TensorView> inputs)>;

// The elements of output `index`. INTERNAL when there is no such output, when it
// is not of T, or when its bytes do not match its shape.
template <typename T>
absl::StatusOr<std::vector<T>> OutputAs(const std::vector<OwnedTensor>& outputs, size_t index) {
  if (index >= outputs.size()) {
    return absl::InternalError(absl::StrCat("the model gave no output ", index));
  }
  const OwnedTensor& output = outputs[index];
  if (output.spec.dtype != DTypeOf<T>() ||
      output.bytes.size() != TensorBytes(output.spec.dtype, output.spec.shape)) {
    return absl::InternalError(
        absl::StrCat("the model gave an unexpected output ", ToString(output.spec)));
  }
  std::vector<T> elements(output.bytes.size() / sizeof(T));
  if (!elements.empty()) std::memcpy(elements.data(), output.bytes.data(), output.bytes.size());
  return elements;
}

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_INFER_H_

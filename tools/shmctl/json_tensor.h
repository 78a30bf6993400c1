// A tensor written as JSON.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_JSON_TENSOR_H_
#define BATON_TOOLS_SHMCTL_JSON_TENSOR_H_

#include <string_view>

#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "tools/shmctl/input_file.h"

namespace baton::shmctl {

// Nested arrays (or one bare value for a scalar), as a tensor of the name and
// dtype of `spec`; the shape is that of the nesting. Accepted as elements:
// numbers that the dtype can hold exactly (floats: nearest); true and false for
// bool; strings of digits for integers; "NaN", "Infinity" and "-Infinity" for
// floats. INVALID_ARGUMENT says which element is wrong.
absl::StatusOr<HostTensor> ParseJsonTensor(std::string_view text, const TensorSpec& spec);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_JSON_TENSOR_H_

// Outputs, each in a file of its own.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_OUTPUT_FILES_H_
#define BATON_TOOLS_SHMCTL_OUTPUT_FILES_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/tensor.h"

namespace baton::shmctl {

// File names (without their ending) for outputs of these names: all different,
// and inside a directory whatever a model calls its outputs.
std::vector<std::string> OutputFileNames(std::span<const TensorView> outputs);

// Writes each output to `directory`, which is made when it is not there, as
// .npy, or as .safetensors where NumPy lacks the dtype (bfloat16). Returns the
// paths.
absl::StatusOr<std::vector<std::string>> WriteOutputs(std::span<const TensorView> outputs,
                                                      const std::string& directory);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_OUTPUT_FILES_H_

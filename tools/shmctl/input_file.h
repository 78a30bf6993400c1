// Inputs from files, as --input names them.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_INPUT_FILE_H_
#define BATON_TOOLS_SHMCTL_INPUT_FILE_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"

namespace baton::shmctl {

// A tensor in this process's own memory.
struct HostTensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;  // dense, row-major
};

struct InputArgument {
  std::string name;
  std::string path;
};

// "name=FILE"; the first `=` splits. UsageError.
absl::StatusOr<InputArgument> ParseInputArgument(std::string_view argument);

// Reads one input:
//   .npy          the array
//   .safetensors  the tensor of the input's name, or the only one there is
//   .json         nested arrays of numbers (or true and false; strings for 64-bit
//                 integers), of the dtype that the signature has; small ones only
// Whether dtype and shape are right is for the server's signature to say, when
// the request is made. INVALID_ARGUMENT and the files' errors, naming the file.
absl::StatusOr<HostTensor> LoadInput(const InputArgument& argument, const Signature& signature);

// All of them. UsageError for a name that comes twice.
absl::StatusOr<std::vector<HostTensor>> LoadInputs(std::span<const std::string> arguments,
                                                   const Signature& signature);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_INPUT_FILE_H_

// NumPy's .npy files: one array each.
//
// Read are versions 1, 2 and 3, C order, little-endian. Files are read whole
// and checked: the size must be that of dtype and shape.
#ifndef BATON_LOADER_NPY_H_
#define BATON_LOADER_NPY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"

namespace baton::loader {

struct NpyArray {
  DType dtype = DType::kInvalid;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;  // dense, row-major
};

// INVALID_ARGUMENT names the file and what is wrong; NumPy types that Baton
// has no dtype for (text, complex, objects, big-endian) are refused.
absl::StatusOr<NpyArray> LoadNpy(const std::string& path);

// The same, from bytes; `name` is for errors.
absl::StatusOr<NpyArray> ParseNpy(const std::string& name, std::span<const std::byte> file);

// Writes version 1. INVALID_ARGUMENT when `bytes` does not match, or for
// bfloat16, which NumPy does not have.
absl::Status SaveNpy(const std::string& path, DType dtype, std::span<const int64_t> shape,
                     std::span<const std::byte> bytes);

}  // namespace baton::loader

#endif  // BATON_LOADER_NPY_H_

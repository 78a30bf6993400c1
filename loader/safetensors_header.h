// The header of a safetensors file: which tensors it has, and where.
//
// Layout of a file:
//   8 bytes   N, little-endian
//   N bytes   JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...,
//             "__metadata__": {"key": "value"}}
//   the rest  the tensors, without gaps; offsets count from here
#ifndef BATON_LOADER_SAFETENSORS_HEADER_H_
#define BATON_LOADER_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/tensor.h"

namespace baton::loader {

// One tensor of a file. `offset` counts from the start of the data.
struct StoredTensor {
  TensorSpec spec;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // by offset
  std::map<std::string, std::string> metadata;
};

// The format allows 100 MB; a JSON tree of that would cost gigabytes. This is
// enough for more than 100,000 tensors.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = uint64_t{16} << 20;

// Checks all of it: types, known dtypes, that each size is that of dtype and
// shape, that the tensors cover `data_bytes` without gap or overlap, and that
// no name or key comes twice. INVALID_ARGUMENT names the tensor.
// Throws nothing.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json,
                                                         uint64_t data_bytes);

// The JSON of a header, for tensors with offsets that ParseSafetensorsHeader
// would take.
absl::StatusOr<std::string> FormatSafetensorsHeader(const SafetensorsHeader& header);

}  // namespace baton::loader

#endif  // BATON_LOADER_SAFETENSORS_HEADER_H_

// The header of an .npy file: a Python dictionary as text, such as
//   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
#ifndef BATON_LOADER_NPY_HEADER_H_
#define BATON_LOADER_NPY_HEADER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace baton::loader {

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// INVALID_ARGUMENT for anything but the three keys, each once.
absl::StatusOr<NpyHeader> ParseNpyHeader(std::string_view text);

}  // namespace baton::loader

#endif  // BATON_LOADER_NPY_HEADER_H_

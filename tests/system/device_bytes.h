// The bytes of tensors wherever they lie, from the test's own process.
#ifndef BATON_TESTS_SYSTEM_DEVICE_BYTES_H_
#define BATON_TESTS_SYSTEM_DEVICE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/request.h"
#include "baton/tensor.h"

namespace baton::testing {

// Into input `index` of `request`: in place, or by a copy to the GPU that is
// over when this returns.
absl::Status WriteInput(const Request& request, size_t index, std::span<const uint8_t> bytes);

absl::StatusOr<std::vector<uint8_t>> ReadTensor(const TensorView& view);

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_DEVICE_BYTES_H_

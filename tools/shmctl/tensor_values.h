// A tensor's elements, for people and for JSON.
//
// Plain functions, any thread. Each element is read once, so that bytes which
// somebody still writes give an odd value at worst.
#ifndef BATON_TOOLS_SHMCTL_TENSOR_VALUES_H_
#define BATON_TOOLS_SHMCTL_TENSOR_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "baton/tensor.h"
#include "ipc/schema/report.capnp.h"

namespace baton::shmctl {

// "scores: float32[1, 3] = [[0.1, 0.2, 0.7]]", with the values only where there
// are at most `max_values`.
std::string FormatTensor(const TensorView& tensor, uint64_t max_values);

void WriteValues(const TensorView& tensor, ipc::schema::Values::Builder to);

// IEEE 754 binary16 and bfloat16, exactly.
float Float16ToFloat(uint16_t bits);
float BFloat16ToFloat(uint16_t bits);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_TENSOR_VALUES_H_

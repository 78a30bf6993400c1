// A request's shapes, laid out and described.
//
// Thread safety: belongs to its channel's thread.
#ifndef BATON_RUNTIME_FRONT_PLAN_REP_H_
#define BATON_RUNTIME_FRONT_PLAN_REP_H_

#include <cstdint>
#include <vector>

#include "baton/tensor.h"
#include "ipc/descriptor.h"

namespace baton::internal {

// Never changes once made, but for what results need.
struct PlanRep {
  uint32_t method = 0;
  bool item = false;            // of a stream of that method
  uint32_t window_granule = 0;  // of a stream's start: where its window is in the block
  std::vector<TensorSpec> inputs;
  std::vector<ipc::TensorLayout> layouts;
  std::vector<uint32_t> secrets;  // of `layouts`: wiped when the request has ended
  ipc::DescriptorBytes descriptor;
  uint64_t token = 0;
  uint64_t asked_response_bytes = 0;
  bool on_device = false;  // the results
  bool inputs_on_device = false;
  uint32_t request_granules = 0;
  uint32_t input_granules = 0;  // on the device
  // Both grow when results turn out to need more than was first loaned.
  mutable uint32_t response_granules = 0;
  mutable uint32_t device_granules = 0;  // 0: results go to the response's block
  mutable uint64_t first_output = 0;     // offset in its block of the last answer's first output
  mutable uint32_t chunk_granules = 0;   // of a stream's start: for each response
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_PLAN_REP_H_

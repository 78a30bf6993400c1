// How much shared memory a command's channel needs.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_CHANNEL_SIZING_H_
#define BATON_TOOLS_SHMCTL_CHANNEL_SIZING_H_

#include <cstdint>
#include <vector>

#include "baton/options.h"
#include "baton/tensor.h"
#include "tools/shmctl/input_file.h"

namespace baton::shmctl {

std::vector<TensorSpec> SpecsOf(const std::vector<HostTensor>& tensors);
uint64_t TotalBytes(const std::vector<HostTensor>& tensors);

// A channel for requests of `inputs`, one at a time, with room for a few whose
// blocks are still out after they timed out. Responses of a fixed shape get
// the same; where the shape is the model's to choose, `dynamic_response_bytes`.
ChannelOptions SizeChannel(const std::vector<HostTensor>& inputs, const Signature& signature,
                           uint64_t dynamic_response_bytes);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_CHANNEL_SIZING_H_

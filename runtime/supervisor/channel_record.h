// A channel as the supervisor knows it: descriptors that make its rings
// outlive workers. Nothing of it is mapped here.
#ifndef BATON_RUNTIME_SUPERVISOR_CHANNEL_RECORD_H_
#define BATON_RUNTIME_SUPERVISOR_CHANNEL_RECORD_H_

#include <cstdint>

#include "absl/status/status.h"

#include "ipc/unique_fd.h"

namespace baton::runtime {

struct ChannelRecord {
  uint64_t channel = 0;    // never used twice
  uint64_t session = 0;    // whose it is
  uint64_t open_call = 0;  // to be answered when it is usable; 0: answered
  ipc::UniqueFd submission;
  ipc::UniqueFd completion;
  ipc::UniqueFd event;  // may be invalid
  uint64_t submission_bytes = 0;
  uint64_t completion_bytes = 0;
  // Its slices of device memory, at these places in the arena of every generation.
  struct DeviceSlice {
    uint64_t offset = 0;
    uint64_t bytes = 0;  // 0: none
    uint64_t end() const { return bytes == 0 ? 0 : offset + bytes; }
  };
  DeviceSlice device_results;
  DeviceSlice device_inputs;
};

// Whether the descriptors are what they are said to be: files in memory of at
// least these sizes, and an eventfd that does not block. INVALID_ARGUMENT otherwise. A descriptor
// of anything else could make whoever reads it wait, or be cut short under it.
absl::Status CheckChannelDescriptors(const ChannelRecord& channel);

// How many requests wait in the channel's ring, not taken by any worker. Reads
// the segments through their descriptors; for receipts, so that 0 stands for
// every way in which their content makes no sense.
uint64_t CountWaitingRequests(const ChannelRecord& channel);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_CHANNEL_RECORD_H_

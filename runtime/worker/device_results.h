// Where the results of a request go on the device.
//
// Thread safety: pure.
#ifndef BATON_RUNTIME_WORKER_DEVICE_RESULTS_H_
#define BATON_RUNTIME_WORKER_DEVICE_RESULTS_H_

#include "absl/status/statusor.h"

#include "ipc/channel_layout.h"
#include "runtime/worker/channel_device.h"
#include "runtime/worker/response_writer.h"

namespace baton::runtime {

// What `entry` names of a channel's `slice`; nowhere when it names nothing.
// INVALID_ARGUMENT: it is not inside. FAILED_PRECONDITION: this generation sets too
// little aside.
absl::StatusOr<DeviceResultBlock> FindDeviceResults(const ipc::SubmissionEntry& entry,
                                                    const DeviceSlice& slice,
                                                    const ChannelDevice& device);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_DEVICE_RESULTS_H_

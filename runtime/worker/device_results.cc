#include "runtime/worker/device_results.h"

#include "absl/strings/str_cat.h"

namespace baton::runtime {

absl::StatusOr<DeviceResultBlock> FindDeviceResults(const ipc::SubmissionEntry& entry,
                                                    const DeviceSlice& slice,
                                                    const ChannelDevice& device) {
  if (entry.device_granules == 0) return DeviceResultBlock{};
  const uint64_t end = uint64_t{entry.device_granule} + entry.device_granules;
  if (end > slice.bytes / ipc::kGranuleBytes) {
    return absl::InvalidArgumentError("the block for the results is outside the channel's slice");
  }
  if (!slice.IsIn(device)) {
    return absl::FailedPreconditionError(
        absl::StrCat("this generation sets ", device.slices_bytes,
                     " bytes of device memory aside for channels, this one's results end at ",
                     slice.offset + slice.bytes));
  }
  return DeviceResultBlock{.device = device.device,
                           .address = device.slices_address + slice.offset +
                                      uint64_t{entry.device_granule} * ipc::kGranuleBytes,
                           .bytes = uint64_t{entry.device_granules} * ipc::kGranuleBytes};
}

}  // namespace baton::runtime

// The device as a worker's channels use it.
//
// Plain values, no synchronisation.
#ifndef BATON_RUNTIME_WORKER_CHANNEL_DEVICE_H_
#define BATON_RUNTIME_WORKER_CHANNEL_DEVICE_H_

#include <cstdint>

#include "ipc/device.h"

namespace baton::runtime {

// Nothing by default.
struct ChannelDevice {
  ipc::Device* device = nullptr;
  uint64_t slices_address = 0;  // what the arena sets aside for channels' slices
  uint64_t slices_bytes = 0;
};

// A channel's part of that, at the same place in every generation.
struct DeviceSlice {
  uint64_t offset = 0;
  uint64_t bytes = 0;  // 0: none
  bool IsIn(const ChannelDevice& device) const {
    return device.device != nullptr && offset <= device.slices_bytes &&
           bytes <= device.slices_bytes - offset;
  }
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CHANNEL_DEVICE_H_

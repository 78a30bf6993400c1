// Inputs that lie on the device: where they are, and how a model gets at them.
//
// Thread safety: none; belongs to the serving thread. No allocation for inputs
// no larger than those before.
#ifndef BATON_RUNTIME_WORKER_DEVICE_INPUTS_H_
#define BATON_RUNTIME_WORKER_DEVICE_INPUTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/channel_layout.h"
#include "runtime/worker/channel_device.h"

namespace baton::runtime {

// Where one input lies: in the request's block, or in that on the device.
struct InputPlace {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  bool on_device = false;
};

class DeviceInputs {
 public:
  // A request's block on the device. None without bytes.
  struct Block {
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint32_t generation = 0;  // whose arena it is in, as the front says; low 32 bits
  };

  explicit DeviceInputs(const DeviceSlice& slice) : slice_(slice) {}
  void UseDevice(const ChannelDevice& device);

  // Reads the header once, and checks what it says against the slice.
  // INVALID_ARGUMENT: it is not inside. FAILED_PRECONDITION: this generation
  // sets too little aside.
  absl::StatusOr<Block> Find(const ipc::RequestBlockHeader& header) const;

  // Memory that inputs are copied to, by input; kept.
  using Bounce = std::vector<std::vector<std::byte>>;

  // Sets where each of `inputs` that lies on the device is, as `places` say of a
  // block that was checked to hold them: in place on the host device, and for a
  // model that reads its GPU's memory itself (`in_place`); else copied to the
  // host. Valid until the next call, or of the one with `bounce` for as long as that is
  // left alone.
  absl::Status Show(const Block& block, std::span<const InputPlace> places, bool in_place,
                    std::span<TensorView> inputs) {
    return Show(block, places, in_place, inputs, bounce_);
  }
  absl::Status Show(const Block& block, std::span<const InputPlace> places, bool in_place,
                    std::span<TensorView> inputs, Bounce& bounce) const;

 private:
  const DeviceSlice slice_;
  ChannelDevice device_;
  bool cpu_reads_ = false;
  int32_t ordinal_ = -1;
  Bounce bounce_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_DEVICE_INPUTS_H_

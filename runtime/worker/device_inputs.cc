#include "runtime/worker/device_inputs.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

#include "ipc/open_device.h"

namespace baton::runtime {

void DeviceInputs::UseDevice(const ChannelDevice& device) {
  device_ = device;
  cpu_reads_ = false;
  ordinal_ = -1;
  if (device.device == nullptr) return;
  const absl::StatusOr<ipc::DeviceName> name =
      ipc::ParseDeviceName(std::string(device.device->name()));
  if (!name.ok()) return;
  cpu_reads_ = name->kind == ipc::DeviceName::Kind::kHost;
  if (!cpu_reads_) ordinal_ = static_cast<int32_t>(name->ordinal);
}

absl::StatusOr<DeviceInputs::Block> DeviceInputs::Find(
    const ipc::RequestBlockHeader& header) const {
  // Relaxed: these were there before the entry that names the block.
  const uint64_t granules = header.input_granules.load(std::memory_order_relaxed);
  if (granules == 0) return Block{};
  const uint64_t granule = header.input_granule.load(std::memory_order_relaxed);
  if (granule + granules > slice_.bytes / ipc::kGranuleBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the block with the inputs is outside the channel's slice of ", slice_.bytes,
                     " bytes of device memory"));
  }
  if (!slice_.IsIn(device_)) {
    return absl::FailedPreconditionError(
        absl::StrCat("this generation sets ", device_.slices_bytes,
                     " bytes of device memory aside for channels, this one's inputs end at ",
                     slice_.offset + slice_.bytes));
  }
  return Block{.address = device_.slices_address + slice_.offset + granule * ipc::kGranuleBytes,
               .bytes = granules * ipc::kGranuleBytes,
               // SYNC: inputs_moved. What was moved to this generation's arena is there.
               .generation = header.input_generation.load(std::memory_order_acquire)};
}

absl::Status DeviceInputs::Show(const Block& block, std::span<const InputPlace> places,
                                bool in_place, std::span<TensorView> inputs, Bounce& bounce) const {
  for (size_t i = 0; i < places.size(); ++i) {
    if (!places[i].on_device) continue;
    const uint64_t address = block.address + places[i].offset;
    TensorView& view = inputs[i];
    if (cpu_reads_) {  // there an address is a pointer
      view.bytes = {reinterpret_cast<const std::byte*>(address), places[i].bytes};
      continue;
    }
    view.bytes = {};
    view.device_address = in_place ? address : 0;
    view.device_ordinal = in_place ? ordinal_ : -1;
    if (in_place) continue;
    bounce.resize(std::max(bounce.size(), places.size()));
    if (bounce[i].size() < places[i].bytes) bounce[i].resize(places[i].bytes);
    const std::span<std::byte> to = std::span(bounce[i]).first(places[i].bytes);
    if (absl::Status copied = device_.device->CopyFromDevice(to, address); !copied.ok()) {
      return copied;
    }
    view.bytes = to;
  }
  return absl::OkStatus();
}

}  // namespace baton::runtime

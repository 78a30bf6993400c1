#include "runtime/front/response_layouts.h"

#include <atomic>
#include <utility>

#include "absl/status/status.h"

namespace baton::internal {
namespace {

uint64_t NextSerial() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

ResponseLayouts::~ResponseLayouts() {
  for (ResponseLayout* layout : kept_) delete layout;
}

absl::StatusOr<ResponseLayout*> ResponseLayouts::Get(uint64_t generation, uint64_t token,
                                                     std::span<const std::byte> described,
                                                     uint64_t block_bytes, uint64_t device_bytes) {
  ResponseLayout*& slot = kept_[token % kKept];
  if (token != 0 && slot != nullptr && slot->token == token && slot->generation == generation) {
    if (slot->end > block_bytes || slot->device_end > device_bytes) {
      return absl::InvalidArgumentError("a response does not fit the block it was loaned");
    }
    ++slot->uses;
    return slot;
  }
  const std::vector<std::byte> copy(described.begin(), described.end());
  absl::StatusOr<std::vector<ipc::TensorLayout>> tensors =
      ipc::ParseResponse(copy, block_bytes, device_bytes);
  if (!tensors.ok()) return tensors.status();
  absl::StatusOr<std::vector<uint32_t>> order = ipc::MatchSpecs(signature_.outputs, *tensors);
  if (!order.ok()) return order.status();
  auto layout = std::make_unique<ResponseLayout>();
  layout->generation = generation;
  layout->token = token;
  layout->serial = NextSerial();
  layout->end = ipc::LayoutEnd(*tensors);
  layout->device_end = ipc::DeviceLayoutEnd(*tensors);
  layout->tensors = *std::move(tensors);
  layout->order = *std::move(order);
  layout->uses = 1;
  if (token != 0) {
    if (slot != nullptr) {
      slot->kept = false;
      if (slot->uses == 0) delete slot;
    }
    layout->kept = true;
    slot = layout.get();
  }
  return layout.release();
}

void ResponseLayouts::Release(ResponseLayout* layout) {
  if (--layout->uses == 0 && !layout->kept) delete layout;
}

}  // namespace baton::internal

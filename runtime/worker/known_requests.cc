#include "runtime/worker/known_requests.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::runtime {
namespace {

uint64_t CommonRows(const std::vector<ipc::TensorLayout>& layouts) {
  int64_t rows = 0;
  for (const ipc::TensorLayout& layout : layouts) {
    if (layout.shape.empty() || layout.shape[0] <= 0 || layout.on_device) return 0;
    if (rows != 0 && layout.shape[0] != rows) return 0;
    rows = layout.shape[0];
  }
  return static_cast<uint64_t>(rows);
}

absl::StatusOr<std::shared_ptr<KnownRequest>> Parse(const DescriptionName& name,
                                                    std::span<const std::byte> block,
                                                    const Signature& signature) {
  if (name.bytes > ipc::kMaxDescriptorBytes || block.size() < ipc::kBlockHeaderBytes ||
      name.bytes > block.size() - ipc::kBlockHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request's description has ", name.bytes, " bytes, the limit is ",
                     ipc::kMaxDescriptorBytes, ", its block has ", block.size()));
  }
  // Copied before it is parsed: the front could change it meanwhile.
  const std::span<const std::byte> described = block.subspan(ipc::kBlockHeaderBytes, name.bytes);
  const std::vector<std::byte> copy(described.begin(), described.end());
  absl::StatusOr<std::vector<ipc::TensorLayout>> layouts =
      ipc::ParseRequest(copy, block.size(), name.device_bytes);
  if (!layouts.ok()) return layouts.status();
  auto request = std::make_shared<KnownRequest>();
  request->specs = InputsOf(signature, name.item);
  absl::StatusOr<std::vector<uint32_t>> order = ipc::MatchSpecs(request->specs, *layouts);
  if (!order.ok()) return order.status();
  request->token = name.token;
  request->method = name.method;
  request->item = name.item;
  request->layouts = *std::move(layouts);
  request->rows = CommonRows(request->layouts);
  request->end = ipc::LayoutEnd(request->layouts);
  request->device_end = ipc::DeviceLayoutEnd(request->layouts);
  for (size_t i = 0; i < order->size(); ++i) {
    const uint32_t index = (*order)[i];
    if (index == ipc::kNoLayout) {
      request->places.emplace_back();
      request->inputs.emplace_back().name = request->specs[i].name;
      continue;
    }
    const ipc::TensorLayout& layout = request->layouts[index];
    request->places.push_back(
        {.offset = layout.offset, .bytes = layout.bytes, .on_device = layout.on_device});
    request->inputs.push_back(
        {.name = layout.name, .dtype = layout.dtype, .shape = layout.shape, .bytes = {}});
  }
  return request;
}

}  // namespace

absl::StatusOr<KnownRequest*> KnownRequests::Get(const DescriptionName& name,
                                                 std::span<const std::byte> block,
                                                 const Signature& signature) {
  const bool named = name.token != 0;
  std::shared_ptr<KnownRequest>& slot = named ? known_[name.token % ipc::kMaxPlans] : unnamed_;
  if (named && slot != nullptr && slot->token == name.token) {
    if (slot->method != name.method || slot->item != name.item) {
      return absl::InvalidArgumentError(absl::StrCat("the description ", name.token,
                                                     " is of method ", slot->method, ", not of ",
                                                     name.method, ", or of another part of it"));
    }
    if (slot->end > block.size() || slot->device_end > name.device_bytes) {
      return absl::InvalidArgumentError("the request's block is smaller than its description says");
    }
    return slot.get();
  }
  absl::StatusOr<std::shared_ptr<KnownRequest>> request = Parse(name, block, signature);
  if (!request.ok()) return request.status();
  slot = *std::move(request);
  return slot.get();
}

}  // namespace baton::runtime

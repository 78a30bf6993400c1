// ChannelCore: what answers hold: results, the room that they lacked, the text of errors.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "runtime/front/channel_core.h"

namespace baton::internal {
namespace {

constexpr size_t kMaxErrorText = 4096;

// Text from another process, for terminals and logs: without control characters.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') c = '?';
  }
  return text;
}

// a is before b, wherever sequences wrap.
bool Before(uint64_t a, uint64_t b) { return static_cast<int64_t>(b - a) > 0; }

}  // namespace

bool ChannelCore::ReadOutputs(Slot& slot, const ipc::CompletionEntry& entry) {
  const uint64_t block_bytes = slot.response.granules * ipc::kGranuleBytes;
  if (entry.descriptor_bytes > block_bytes || entry.descriptor_bytes > ipc::kMaxDescriptorBytes) {
    Poison("a response's description is larger than its block");
    return false;
  }
  // A bound request's last answer, in the same block: its views are what they were.
  if (slot.layout != nullptr && slot.layout->token == entry.descriptor_token &&
      entry.descriptor_token != 0 && slot.layout->generation == entry.generation &&
      !slot.has_device) {
    return true;
  }
  if (slot.layout != nullptr) ResponseLayouts::Release(std::exchange(slot.layout, nullptr));
  const std::byte* block = ResponseBytes(slot.response);
  const uint32_t method = slot.plan->method;
  std::unique_ptr<ResponseLayouts>& layouts = layouts_[method];
  if (layouts == nullptr) {
    layouts = std::make_unique<ResponseLayouts>(methods()[method].signature);
  }
  absl::StatusOr<ResponseLayout*> layout =
      layouts->Get(entry.generation, entry.descriptor_token, {block, entry.descriptor_bytes},
                   block_bytes, slot.has_device ? slot.device.granules * ipc::kGranuleBytes : 0);
  if (!layout.ok()) {
    Poison(Printable(std::string(layout.status().message())));
    return false;
  }
  slot.layout = *layout;
  if (!(*layout)->order.empty()) {
    slot.plan->first_output = (*layout)->tensors[(*layout)->order[0]].offset;
  }
  // The same slot gets the same block again, mostly, and the same kind of answer.
  if (slot.views_of == (*layout)->serial && slot.views_in == slot.response.granule &&
      !slot.has_device) {
    return true;
  }
  slot.views_of = slot.has_device ? 0 : (*layout)->serial;
  slot.views_in = slot.response.granule;
  const size_t count = (*layout)->order.size();
  slot.views.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const ipc::TensorLayout& tensor = (*layout)->tensors[(*layout)->order[i]];
    slot.views[i] = {.name = tensor.name,
                     .dtype = tensor.dtype,
                     .shape = tensor.shape,
                     .bytes = {block + tensor.offset, tensor.on_device ? 0 : tensor.bytes},
                     .device_address = 0};
  }
  return true;
}

absl::Status ChannelCore::LeaseResults(Slot& slot, uint64_t generation) {
  slot.arena = session_->LeaseResult(channel_, generation);
  const uint64_t start = slice_offset_ + slot.device.granule * ipc::kGranuleBytes;
  const uint64_t end = start + slot.device.granules * ipc::kGranuleBytes;
  if (slot.arena == nullptr || end > slot.arena->size_bytes()) {
    slot.views.clear();
    return absl::AbortedError(absl::StrCat(
        "the results lie in device memory of generation ", generation,
        " that is not mapped here: this front was too late to map it, or could not. Send the "
        "request again if that does no harm"));
  }
  const std::span<const std::byte> bytes = slot.arena->bytes();
  for (size_t i = 0; i < slot.views.size(); ++i) {
    const ipc::TensorLayout& tensor = slot.layout->tensors[slot.layout->order[i]];
    if (!tensor.on_device) continue;
    const uint64_t at = start + tensor.offset;
    if (!bytes.empty()) {
      slot.views[i].bytes = bytes.subspan(at, tensor.bytes);
    } else {
      slot.views[i].bytes = {};
      slot.views[i].device_address = slot.arena->device_address() + at;
      slot.views[i].device_ordinal = slot.arena->device_ordinal();
    }
  }
  return absl::OkStatus();
}

uint32_t ChannelCore::UnreadAnswers(uint64_t generation) const {
  const ipc::WorkerState& worker = worker_state();
  const uint64_t read = front_state().completions_read.load(std::memory_order_acquire);
  const auto* entries = reinterpret_cast<const ipc::CompletionEntry*>(completion_.data() +
                                                                      completion_plan_.ring_offset);
  uint64_t published =
      ipc::FindPublished(entries, ipc::CompletionEntries(options_.ring_entries), read);
  // What a later generation has answered since is not this one's. SYNC: generation_resumed
  const uint64_t resumed = worker.resume_generation.load(std::memory_order_acquire);
  const uint64_t boundary = worker.resume_published.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  const bool settled = worker.resume_generation.load(std::memory_order_relaxed) == resumed;
  if (settled && resumed > generation && Before(boundary, published)) published = boundary;
  return Before(read, published) ? static_cast<uint32_t>(published - read) : 0;
}

bool ChannelCore::RetryLarger(Slot& slot, const ipc::CompletionEntry& entry) {
  const uint64_t needed = entry.needed_bytes;
  const uint64_t needed_there = slot.has_device ? entry.needed_device_bytes : 0;
  const uint64_t had = slot.response.granules * ipc::kGranuleBytes;
  const uint64_t had_there = slot.has_device ? slot.device.granules * ipc::kGranuleBytes : 0;
  if ((needed <= had && needed_there <= had_there) || needed > completion_plan_.arena_bytes ||
      needed_there > options_.device_result_bytes || slot.resubmits >= kMaxResubmits) {
    return false;
  }
  const PlanRep& plan = *slot.plan;
  if (slot.kept) {  // it cannot go into the ring again now; the next one has the room
    const auto granules =
        static_cast<uint32_t>(ipc::RoundUpToGranules(needed) / ipc::kGranuleBytes);
    plan.response_granules = std::max(plan.response_granules, granules);
    return false;
  }
  // What a bound one's last answer looked like lies in a block that goes.
  if (slot.layout != nullptr) ResponseLayouts::Release(std::exchange(slot.layout, nullptr));
  // Where there is no larger one the slot is left without; ErrorText copes.
  const auto enlarge = [](ipc::BlockAllocator& blocks, ipc::BlockAllocator::Block& block, bool& has,
                          uint64_t bytes) {
    if (bytes <= block.granules * ipc::kGranuleBytes) return true;
    blocks.Free(block);
    has = blocks.Allocate(static_cast<uint32_t>(ipc::RoundUpToGranules(bytes) / ipc::kGranuleBytes),
                          &block);
    return has;
  };
  if (!enlarge(responses_, slot.response, slot.has_response, needed)) return false;
  if (slot.has_device && !enlarge(device_, slot.device, slot.has_device, needed_there)) {
    return false;
  }
  // The next request of these shapes starts with what this one needed.
  plan.response_granules = std::max(plan.response_granules, slot.response.granules);
  if (slot.has_device) plan.device_granules = std::max(plan.device_granules, slot.device.granules);
  ++slot.resubmits;
  Republish(slot);
  return true;
}

std::string ChannelCore::ErrorText(const Slot& slot, const ipc::CompletionEntry& entry) const {
  if (entry.status_code == static_cast<uint16_t>(absl::StatusCode::kResourceExhausted) &&
      slot.kept && entry.needed_bytes > 0 && entry.needed_bytes <= completion_plan_.arena_bytes) {
    return absl::StrCat("the results need a block of ", entry.needed_bytes,
                        " bytes, and the model keeps the inputs, so that this request cannot be "
                        "tried again by itself: send it again, the next one of its plan has that "
                        "room, or plan with response_bytes");
  }
  if (entry.status_code == static_cast<uint16_t>(absl::StatusCode::kResourceExhausted) &&
      entry.needed_device_bytes > 0) {
    return absl::StrCat("the results need a block of ", entry.needed_device_bytes,
                        " bytes on the device, which this channel's slice of ",
                        options_.device_result_bytes, " bytes (",
                        device_.free_granules() * ipc::kGranuleBytes,
                        " free) cannot give: release responses, or open the channel with more "
                        "device_result_bytes");
  }
  if (entry.status_code == static_cast<uint16_t>(absl::StatusCode::kResourceExhausted) &&
      entry.needed_bytes > 0) {
    return absl::StrCat("the results need a block of ", entry.needed_bytes,
                        " bytes, which this channel's response arena of ",
                        completion_plan_.arena_bytes, " bytes (", free_response_bytes(),
                        " free) cannot give: release responses, or open the channel with more "
                        "response_arena_bytes");
  }
  return TextAt(slot, 0, entry.descriptor_bytes);
}

std::string ChannelCore::TextAt(const Slot& slot, uint64_t offset, uint64_t length) const {
  const uint64_t room = slot.response.granules * ipc::kGranuleBytes;
  if (!slot.has_response || offset > room) return "";
  const size_t bytes = std::min<size_t>({length, kMaxErrorText, room - offset});
  std::string text(bytes, '\0');
  std::memcpy(text.data(), ResponseBytes(slot.response) + offset, bytes);
  return Printable(std::move(text));
}

}  // namespace baton::internal

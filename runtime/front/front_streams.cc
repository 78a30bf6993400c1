#include "runtime/front/front_streams.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/worker_sleep.h"
#include "runtime/front/channel_core.h"

namespace baton::internal {
namespace {

constexpr int64_t kMaxTimeoutNs = int64_t{24} * 3600 * 1'000'000'000;

int64_t DeadlineAfter(int64_t now, absl::Duration timeout) {
  const int64_t longest = std::max<int64_t>(absl::ToInt64Nanoseconds(timeout), 0);
  return longest > INT64_MAX - now ? INT64_MAX : now + longest;
}

}  // namespace

void FrontStreams::WakeWorker() const {
  ipc::WakeWorkerIfSleeping(core_.session_->worker_page().sleeping, core_.session_->doorbell_fd());
}

// ---- Opening -----------------------------------------------------------------------------------

absl::Status FrontStreams::CheckOpen(uint32_t slot, const StreamOptions& options,
                                     int64_t deadline) const {
  const PlanRep& plan = *core_.slots_[slot].plan;
  if (plan.item || !core_.methods()[plan.method].streams()) {
    return absl::InvalidArgumentError(
        absl::StrCat("method '", core_.methods()[plan.method].name,
                     plan.item ? "': an item starts no stream, send it with Stream::Write"
                               : "' does not stream: Call or Submit it"));
  }
  if (!std::has_single_bit(options.window) || options.window > ipc::kMaxStreamWindow ||
      options.window + 1 > core_.options_.ring_entries) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a stream's window is ", options.window, ": must be a power of two from 1 to ",
        ipc::kMaxStreamWindow, ", and less than ring_entries (", core_.options_.ring_entries, ")"));
  }
  return core_.CheckHold(deadline, ipc::MonotonicNs());
}

absl::StatusOr<FrontStream*> FrontStreams::Open(uint32_t index, const StreamOptions& options) {
  if (absl::Status usable = core_.CheckUsable(); !usable.ok()) return usable;
  const int64_t now = ipc::MonotonicNs();
  const int64_t deadline =
      now + std::clamp<int64_t>(absl::ToInt64Nanoseconds(options.timeout), 0, kMaxTimeoutNs);
  if (absl::Status good = CheckOpen(index, options, deadline); !good.ok()) return good;
  const uint32_t places = options.window + 1;
  if (core_.in_ring_ + places > core_.options_.ring_entries) core_.Reclaim();
  if (absl::Status usable = core_.CheckUsable(); !usable.ok()) return usable;
  if (core_.in_ring_ + places > core_.options_.ring_entries) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a stream with a window of ", options.window, " needs ", places,
                     " places of the ring, ", core_.options_.ring_entries - core_.in_ring_,
                     " are free: read and end other requests first, or open the channel with more "
                     "ring_entries"));
  }
  ChannelCore::Slot& slot = core_.slots_[index];
  auto owned = std::make_unique<FrontStream>();
  FrontStream& stream = *owned;
  stream.start = index;
  stream.window = options.window;
  stream.plan = slot.plan;
  for (auto* list : {&stream.lent, &stream.arrived}) list->resize(options.window);
  stream.sent.resize(options.window);
  for (auto* list : {&stream.slots, &stream.idle}) list->reserve(options.window);
  std::byte* const block = core_.RequestBytes(slot.request);
  stream.shared = new (block + slot.plan->window_granule * ipc::kGranuleBytes) ipc::StreamWindow{};
  stream.progress =
      reinterpret_cast<const ipc::StreamProgress*>(core_.ResponseBytes(slot.response));
  std::optional<uint32_t> first = LoanResponse(stream);
  if (!first) {
    core_.Reclaim();
    first = LoanResponse(stream);
  }
  if (!first) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no block of ", stream.plan->chunk_granules * ipc::kGranuleBytes,
                     " bytes is free for the stream's first response (",
                     core_.free_response_bytes(), " of ", core_.completion_plan_.arena_bytes,
                     "), or no handle: release responses, or open the channel with more"));
  }
  Lend(stream, *first);
  for (uint32_t i = 1; i < options.window; ++i) {
    const std::optional<uint32_t> more = LoanResponse(stream);
    if (!more) break;
    Lend(stream, *more);
  }
  streams_.push_back(std::move(owned));
  slot.stream = &stream;
  slot.places = places;
  core_.Enter(index, deadline);
  core_.Publish(slot);
  return &stream;
}

// ---- Blocks for responses ----------------------------------------------------------------------

bool FrontStreams::GiveBlock(FrontStream& stream, uint32_t index) {
  ChannelCore::Slot& slot = core_.slots_[index];
  const uint32_t granules = stream.plan->chunk_granules;
  if (slot.has_response && slot.response.granules >= granules) return true;
  if (slot.has_response) core_.responses_.Free(slot.response);
  slot.has_response = core_.responses_.Allocate(granules, &slot.response);
  return slot.has_response;
}

std::optional<uint32_t> FrontStreams::LoanResponse(FrontStream& stream) {
  const uint32_t index = core_.free_slot_;
  if (index == ChannelCore::kNoSlot) return std::nullopt;
  if (!GiveBlock(stream, index)) return std::nullopt;
  ChannelCore::Slot& slot = core_.slots_[index];
  core_.free_slot_ = slot.next;
  slot.next = ChannelCore::kNoSlot;
  slot.plan = stream.plan;
  slot.stream = &stream;
  stream.slots.push_back(index);
  return index;
}

void FrontStreams::Lend(FrontStream& stream, uint32_t index) {
  ChannelCore::Slot& slot = core_.slots_[index];
  slot.user = ChannelCore::User::kLent;
  const uint64_t at = stream.credits % stream.window;
  stream.lent[at] = index;
  stream.shared->credit_blocks[at] = {.granule = slot.response.granule,
                                      .granules = slot.response.granules};
  BATON_CRASH_POINT("front.stream_credit_filled");
  // SYNC: stream_credit
  stream.shared->credits.store(++stream.credits, std::memory_order_release);
  BATON_CRASH_POINT("front.stream_credit_published");
  if (core_.slots_[stream.start].outstanding) WakeWorker();
}

// A slot without a block gets one as soon as there is one.
void FrontStreams::LendIdle(FrontStream& stream) {
  while (!stream.idle.empty() && GiveBlock(stream, stream.idle.back())) {
    const uint32_t index = stream.idle.back();
    stream.idle.pop_back();
    Lend(stream, index);
  }
}

void FrontStreams::FreeSlot(FrontStream& stream, uint32_t index) {
  std::erase(stream.slots, index);
  std::erase(stream.idle, index);
  core_.slots_[index].stream = nullptr;
  core_.slots_[index].user = ChannelCore::User::kNone;
  core_.FreeIfDone(index);
}

void FrontStreams::Returned(FrontStream& stream, uint32_t index) {
  ChannelCore::Slot& slot = core_.slots_[index];
  if (!stream.in_ring || !stream.has_user || stream.ended || !core_.broken_.ok()) {
    FreeSlot(stream, index);
    return;
  }
  if (slot.layout != nullptr) ResponseLayouts::Release(std::exchange(slot.layout, nullptr));
  slot.user = ChannelCore::User::kNone;
  if (GiveBlock(stream, index)) {
    Lend(stream, index);
  } else {
    stream.idle.push_back(index);
  }
  LendIdle(stream);
}

// ---- Completions -------------------------------------------------------------------------------

void FrontStreams::Complete(FrontStream& stream, const ipc::CompletionEntry& entry) {
  if ((entry.flags & ipc::kCompletionMore) == 0) {
    End(stream, entry);
    return;
  }
  if (stream.responses == stream.credits) {
    core_.Poison("it gave a stream more responses than it was asked for");
    return;
  }
  const uint32_t index = stream.lent[stream.responses++ % stream.window];
  const auto code = static_cast<absl::StatusCode>(entry.status_code);
  if (code == absl::StatusCode::kResourceExhausted) {
    Enlarge(stream, index, entry.needed_bytes);
  } else if (code == absl::StatusCode::kOk) {
    Arrive(stream, index, entry);
  } else {
    core_.Poison("it gave a stream an error that is not its end");
  }
}

void FrontStreams::Arrive(FrontStream& stream, uint32_t index, const ipc::CompletionEntry& entry) {
  ChannelCore::Slot& slot = core_.slots_[index];
  if (!stream.has_user || stream.ended) {  // nobody asks any more
    FreeSlot(stream, index);
    return;
  }
  if (!core_.ReadOutputs(slot, entry)) return;
  slot.generation = entry.generation;
  slot.service_ns = entry.service_ns;
  slot.user = ChannelCore::User::kArrived;
  stream.arrived[stream.arrivals++ % stream.window] = index;
  if (core_.armed_) ipc::SignalEventFd(core_.event_.get());
}

void FrontStreams::Enlarge(FrontStream& stream, uint32_t index, uint64_t needed_bytes) {
  ChannelCore::Slot& slot = core_.slots_[index];
  if (needed_bytes <= slot.response.granules * ipc::kGranuleBytes) {
    core_.Poison("it refused a block that is large enough");
    return;
  }
  slot.user = ChannelCore::User::kNone;
  if (!stream.has_user || stream.ended) {
    FreeSlot(stream, index);
    return;
  }
  if (needed_bytes > core_.completion_plan_.arena_bytes - ipc::kStreamEndBytes) {
    FreeSlot(stream, index);
    core_.Detach(core_.slots_[stream.start]);
    core_.FinishUser(stream.start, absl::ResourceExhaustedError(absl::StrCat(
                                       "a response of the stream needs a block of ", needed_bytes,
                                       " bytes, the channel's response arena has ",
                                       core_.completion_plan_.arena_bytes,
                                       " bytes: open the channel with more "
                                       "response_arena_bytes")));
    return;
  }
  // The next ones, and the next stream's, start with what this one needed.
  stream.plan->chunk_granules =
      std::max(stream.plan->chunk_granules,
               static_cast<uint32_t>(ipc::RoundUpToGranules(needed_bytes) / ipc::kGranuleBytes));
  core_.responses_.Free(slot.response);
  slot.has_response = false;
  stream.idle.push_back(index);
  LendIdle(stream);
}

void FrontStreams::End(FrontStream& stream, const ipc::CompletionEntry& entry) {
  ChannelCore::Slot& slot = core_.slots_[stream.start];
  const uint32_t index = stream.start;
  const bool pending = slot.user == ChannelCore::User::kPending;
  absl::Status status;
  if (entry.status_code != 0 && pending) {
    status = absl::Status(static_cast<absl::StatusCode>(entry.status_code),
                          core_.TextAt(slot, sizeof(ipc::StreamProgress), entry.descriptor_bytes));
    const bool dropped = (entry.flags & ipc::kCompletionDropped) != 0;
    if (absl::IsCancelled(status) && slot.withdrawn) {
      status = dropped
                   ? std::move(slot.status)
                   : absl::AbortedError(
                         "a hold began just when the stream was started; it may have had effects");
    }
  }
  core_.EndRing(index);
  if (pending) core_.FinishUser(index, std::move(status));
}

void FrontStreams::Finish(FrontStream& stream, absl::Status status) {
  stream.ended = true;
  stream.end = std::move(status);
  if (core_.armed_) ipc::SignalEventFd(core_.event_.get());
}

void FrontStreams::RingEnded(FrontStream& stream) {
  stream.in_ring = false;
  FreeItems(stream, stream.items);
  const std::vector<uint32_t> slots = stream.slots;
  for (const uint32_t index : slots) {
    const ChannelCore::User user = core_.slots_[index].user;
    if (user == ChannelCore::User::kLent || user == ChannelCore::User::kNone) {
      FreeSlot(stream, index);
    }
  }
  if (!stream.has_user) Forget(stream);
}

// ---- The user's side ---------------------------------------------------------------------------

absl::StatusOr<FrontStreams::Reading> FrontStreams::Read(FrontStream& stream,
                                                         absl::Duration timeout) {
  if (core_.session_->forked()) return core_.CheckUsable();
  core_.ReadCompletions();
  if (!stream.idle.empty() && stream.in_ring) LendIdle(stream);
  const auto there = [&] { return stream.read != stream.arrivals || stream.ended; };
  if (!there() || ++core_.polls_ % ChannelCore::kPollsPerCheck == 0) {
    const int64_t now = ipc::MonotonicNs();
    core_.CheckRest(now);
    if (!there() && timeout > absl::ZeroDuration()) {
      core_.WaitFor(there, now, DeadlineAfter(now, timeout));
    }
  }
  if (stream.read != stream.arrivals) {
    const uint32_t index = stream.arrived[stream.read++ % stream.window];
    core_.slots_[index].user = ChannelCore::User::kLeased;
    core_.AddHandle();
    return Reading{.found = Stream::Found::kResponse, .slot = index};
  }
  if (stream.ended) {
    stream.end_read = true;
    if (!stream.end.ok()) return stream.end;
    return Reading{.found = Stream::Found::kEnd};
  }
  if (!core_.broken_.ok()) return core_.broken_;
  return Reading{.found = Stream::Found::kNothing};
}

bool FrontStreams::TakeItemsBack(FrontStream& stream) {
  if (!stream.in_ring || stream.items == stream.items_taken) return true;
  // SYNC: stream_item_taken. Before the id is this stream's, nothing was taken.
  if (stream.progress->request_id.load(std::memory_order_acquire) !=
      core_.slots_[stream.start].id) {
    return true;
  }
  const uint64_t taken = stream.progress->items_taken.load(std::memory_order_acquire);
  if (taken - stream.items_taken > stream.items - stream.items_taken) {
    core_.Poison("it took items of a stream that were not sent, or gave some back");
    return false;
  }
  FreeItems(stream, taken);
  return true;
}

void FrontStreams::FreeItems(FrontStream& stream, uint64_t until) {
  while (stream.items_taken != until) {
    FrontStream::SentItem& item = stream.sent[stream.items_taken++ % stream.window];
    core_.FreeRequestBlock(*item.plan, item.block);
    item.own_plan.reset();
  }
}

absl::Status FrontStreams::Write(FrontStream& stream, uint32_t index, absl::Duration timeout) {
  if (absl::Status usable = core_.CheckUsable(); !usable.ok()) return usable;
  ChannelCore::Slot& slot = core_.slots_[index];
  if (!slot.plan->item || slot.plan->method != stream.plan->method) {
    return absl::InvalidArgumentError("this request is no item of the stream's method");
  }
  const auto room = [&] {
    return stream.ended || stream.items_done || !TakeItemsBack(stream) ||
           stream.items - stream.items_taken < stream.window;
  };
  core_.ReadCompletions();
  const int64_t now = ipc::MonotonicNs();
  if (!room()) core_.CheckRest(now);
  if (!room() && timeout > absl::ZeroDuration()) {
    core_.WaitFor(room, now, DeadlineAfter(now, timeout));
  }
  if (!core_.broken_.ok()) return stream.ended && !stream.end.ok() ? stream.end : core_.broken_;
  if (stream.ended && !stream.end.ok()) return stream.end;
  if (stream.ended || stream.items_done) {
    return absl::FailedPreconditionError(stream.ended ? "the stream has come to its end"
                                                      : "WritesDone was called before");
  }
  stream.wants_room = stream.items - stream.items_taken == stream.window;
  if (stream.wants_room) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the model has not taken the ", stream.window,
                     " items before this one: write it again later, or open a larger window"));
  }
  const uint64_t at = stream.items % stream.window;
  stream.sent[at] = {
      .block = slot.request, .plan = slot.plan, .own_plan = std::move(slot.own_plan)};
  stream.shared->item_blocks[at] = {
      .granule = slot.request.granule,
      .granules = slot.request.granules,
      .descriptor_bytes = static_cast<uint32_t>(slot.plan->descriptor.size()),
      .reserved = 0,
      .descriptor_token = slot.plan->token};
  BATON_CRASH_POINT("front.stream_item_filled");
  // SYNC: stream_item. The item and its block belong together and are whole.
  stream.shared->items.store(++stream.items, std::memory_order_release);
  BATON_CRASH_POINT("front.stream_item_published");
  WakeWorker();
  slot.has_request = false;  // the stream's now
  core_.ReleaseRequest(index);
  return absl::OkStatus();
}

absl::Status FrontStreams::WritesDone(FrontStream& stream) {
  if (absl::Status usable = core_.CheckUsable(); !usable.ok()) return usable;
  if (std::exchange(stream.items_done, true) || !stream.in_ring) return absl::OkStatus();
  stream.shared->items_done.store(1, std::memory_order_release);  // SYNC: stream_item
  BATON_CRASH_POINT("front.stream_items_done");
  WakeWorker();
  return absl::OkStatus();
}

void FrontStreams::Cancel(FrontStream& stream) {
  if (core_.session_->forked() || stream.ended) return;
  core_.Detach(core_.slots_[stream.start]);
  core_.FinishUser(stream.start, absl::CancelledError("the stream was cancelled"));
}

void FrontStreams::Close(FrontStream& stream) {
  if (core_.session_->forked()) {
    core_.DropHandle();
    return;
  }
  if (!stream.ended && core_.broken_.ok()) core_.Detach(core_.slots_[stream.start]);
  for (; stream.read != stream.arrivals; ++stream.read) {
    FreeSlot(stream, stream.arrived[stream.read % stream.window]);
  }
  stream.has_user = false;
  const uint32_t start = stream.start;
  core_.slots_[start].user = ChannelCore::User::kNone;
  if (!stream.in_ring) {
    Forget(stream);
    core_.FreeIfDone(start);
  }
  core_.DropHandle();
}

void FrontStreams::Abandon() {
  for (const auto& stream : streams_) FreeItems(*stream, stream->items);
}

void FrontStreams::Forget(FrontStream& stream) {
  // Responses that are still leased.
  for (const uint32_t index : stream.slots) core_.slots_[index].stream = nullptr;
  core_.slots_[stream.start].stream = nullptr;
  std::erase_if(streams_, [&](const auto& each) { return each.get() == &stream; });
}

bool FrontStreams::AnyReady() {
  return std::any_of(streams_.begin(), streams_.end(), [&](const auto& each) {
    FrontStream& stream = *each;
    if (!stream.has_user) return false;
    if (stream.read != stream.arrivals || (stream.ended && !stream.end_read)) return true;
    return stream.wants_room && TakeItemsBack(stream) &&
           stream.items - stream.items_taken < stream.window;
  });
}

}  // namespace baton::internal

// ChannelCore: requests that keep their blocks, and many that are submitted at once.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/futex.h"
#include "ipc/worker_sleep.h"
#include "runtime/front/channel_core.h"

namespace baton::internal {

absl::StatusOr<uint32_t> ChannelCore::Bind(const PlanRep& plan) {
  if (plan.inputs_on_device) {
    return absl::InvalidArgumentError(
        "a bound request's inputs lie on the host: on the device they would hold every reload up "
        "for as long as it lives. Loan one for each call (Channel::Loan), or plan without "
        "inputs_on_device");
  }
  if (plan.item || methods()[plan.method].streams()) {
    return absl::InvalidArgumentError(
        absl::StrCat("method '", methods()[plan.method].name,
                     "' streams: a stream, and what it takes, is not bound"));
  }
  absl::StatusOr<uint32_t> slot = Loan(plan);
  if (!slot.ok()) return slot.status();
  slots_[*slot].bound = true;
  slots_[*slot].generation = slots_[*slot].service_ns = 0;
  return *slot;
}

// What keeps a bound request from going into the ring now.
absl::Status ChannelCore::CheckBound(Slot& slot) {
  if (slot.user == User::kPending || slot.user == User::kReady) {
    return absl::FailedPreconditionError(
        "this bound request is under way: take its end (Poll, Wait) before it is submitted again");
  }
  if (slot.outstanding) {
    return absl::FailedPreconditionError(
        slot.kept ? "the model keeps this bound request's inputs beyond its answer: submit it when "
                    "it has let go, or bind another"
                  : "a worker may still be at this bound request, whose deadline passed or which "
                    "was cancelled: submit it when that worker has come to it, or bind another");
  }
  if (slot.has_response && (slot.has_device || !slot.plan->on_device)) return absl::OkStatus();
  return LoanAgain(slot);
}

// A result that did not fit took the block, and there was no larger one.
absl::Status ChannelCore::LoanAgain(Slot& slot) {
  const PlanRep& plan = *slot.plan;
  const auto loan = [](ipc::BlockAllocator& blocks, uint32_t granules,
                       ipc::BlockAllocator::Block& block, bool& has) {
    has = has || blocks.Allocate(granules, &block);
    return has;
  };
  if (loan(responses_, plan.response_granules, slot.response, slot.has_response) &&
      (!plan.on_device || loan(device_, plan.device_granules, slot.device, slot.has_device))) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("there is no block for this bound request's results now: release responses, or "
                   "open the channel with more ",
                   slot.has_response ? "device_result_bytes" : "response_arena_bytes"));
}

void ChannelCore::ReleaseBoundAnswer(uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.user != User::kLeased) return;
  slot.user = User::kLoaned;
  if (slot.arena != nullptr) session_->ReturnLease(std::exchange(slot.arena, nullptr), channel_);
}

void ChannelCore::Unbind(uint32_t index) {
  Slot& slot = slots_[index];
  if (session_->forked()) {
    DropHandle();
    return;
  }
  if (slot.user == User::kPending || slot.user == User::kReady) --unfinished_;
  if (slot.user == User::kPending) Detach(slot);
  if (slot.user == User::kReady) RemoveReady(index);
  slot.status = absl::OkStatus();
  slot.bound = false;
  slot.user = User::kNone;
  FreeIfDone(index);
  DropHandle();
}

void ChannelCore::RemoveReady(uint32_t index) {
  uint32_t before = kNoSlot;
  for (uint32_t at = ready_head_; at != kNoSlot && at != index; at = slots_[at].next) before = at;
  uint32_t& link = before == kNoSlot ? ready_head_ : slots_[before].next;
  if (link != index) return;
  link = slots_[index].next;
  if (ready_tail_ == index) ready_tail_ = before;
}

absl::StatusOr<uint64_t> ChannelCore::SubmitBound(uint32_t index, const CallOptions& options,
                                                  uint64_t tag) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  if (absl::Status status = Start(index, options, clock_.NowNs()); !status.ok()) return status;
  slots_[index].listed = true;
  slots_[index].tag = tag;
  return slots_[index].id;
}

absl::Status ChannelCore::CallBound(uint32_t index, const CallOptions& options) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  submissions_.Prefetch();  // as in Call
  const int64_t now = clock_.NowNs();
  if (absl::Status status = Start(index, options, now); !status.ok()) return status;
  Slot& slot = slots_[index];
  slot.listed = false;
  AwaitEnd(slot, now);
  return TakeOutcome(index);
}

// ---- Many at once ------------------------------------------------------------------------------

absl::StatusOr<size_t> ChannelCore::SubmitBatch(size_t count,
                                                absl::FunctionRef<Submission(size_t)> nth,
                                                const CallOptions& options) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  const int64_t now = clock_.NowNs();
  const int64_t deadline = Deadline(options, now);
  if (absl::Status status = CheckHold(deadline, now); !status.ok()) return status;
  // Before any of them is in the ring: what Reclaim finds may be published again.
  bool look = count > options_.ring_entries - in_ring_;
  for (size_t i = 0; i < count && !look; ++i) look = slots_[nth(i).slot].outstanding;
  if (look) {
    Reclaim();
    if (absl::Status status = CheckUsable(); !status.ok()) return status;
  }
  size_t accepted = 0;
  absl::Status refused;
  for (; accepted < count; ++accepted) {
    const Submission submission = nth(accepted);
    Slot& slot = slots_[submission.slot];
    refused = CheckStart(slot);
    if (!refused.ok()) break;
    slot.idempotent = options.idempotent;
    slot.listed = true;
    slot.tag = submission.tag;
    Enter(submission.slot, deadline);
    if (!slot.bound) --handles_;  // the Request's; the core stays with its Channel
  }
  if (accepted == 0) return refused.ok() ? absl::StatusOr<size_t>(0) : refused;
  BATON_CRASH_POINT("front.block_filled");
  submissions_.PublishBatch(static_cast<uint32_t>(accepted),
                            [&](uint32_t i, uint64_t sequence, ipc::SubmissionEntry& entry) {
                              Slot& slot = slots_[nth(i).slot];
                              slot.sequence = sequence;
                              Fill(slot, entry);
                              BATON_CRASH_POINT("front.entry_filled");
                            });
  BATON_CRASH_POINT("front.entry_published");
  Published();
  return accepted;
}

}  // namespace baton::internal

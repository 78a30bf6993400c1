// How requests end: completions, deadlines, dead workers, dead servers.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/prefetch.h"
#include "ipc/worker_sleep.h"
#include "runtime/front/channel_core.h"
#include "runtime/front/hold.h"

namespace baton::internal {
namespace {

// a is before b, wherever sequences wrap.
bool Before(uint64_t a, uint64_t b) { return static_cast<int64_t>(b - a) > 0; }

}  // namespace

// ---- Completions -------------------------------------------------------------------------------

bool ChannelCore::ReadCompletions() {
  if (!broken_.ok()) return false;
  ipc::TakenEntry<ipc::CompletionEntry> entry;
  bool any = false;
  // A broken worker could go on publishing for ever: one lap at a time.
  for (uint32_t i = 0;
       i < ipc::CompletionEntries(options_.ring_entries) && completions_.TryTake(&entry); ++i) {
    any = true;
    Complete(*entry.operator->());
    if (!broken_.ok()) return true;
  }
  if (any) {
    // SYNC: results_leased. What lies on the device was leased before.
    front_state().completions_read.store(completions_.next(), std::memory_order_release);
    if (options_.device_result_bytes > 0) session_->ResultsRead();
  }
  return any;
}

void ChannelCore::Complete(const ipc::CompletionEntry& entry) {
  const uint64_t index = entry.request_id & ((1u << kSlotBits) - 1);
  if (index >= slots_.size() || slots_[index].id != entry.request_id ||
      !slots_[index].outstanding) {
    Poison("it answered a request that is not there");
    return;
  }
  Slot& slot = slots_[index];
  const auto code = static_cast<absl::StatusCode>(entry.status_code);
  if (entry.status_code > static_cast<uint16_t>(absl::StatusCode::kUnauthenticated)) {
    Poison("it answered with a status that does not exist");
    return;
  }
  const auto at = static_cast<uint32_t>(index);
  if (slot.stream != nullptr) {
    streams_.Complete(*slot.stream, entry);
    return;
  }
  const bool more = (entry.flags & ipc::kCompletionMore) != 0;
  if (slot.kept) {  // its inputs are free now, that is all
    more ? Poison("it answered a request twice") : EndRing(at);
    return;
  }
  slot.kept = more;
  slot.generation = entry.generation;
  slot.service_ns = entry.service_ns;
  if ((entry.flags & ipc::kCompletionStaleInputs) != 0 && !more && Park(at, entry)) return;
  if (slot.user != User::kPending) {  // expired or cancelled meanwhile
    if (!more) EndRing(at);
    return;
  }
  if (code == absl::StatusCode::kOk) {
    CompleteOk(at, entry);
    return;
  }
  if (code == absl::StatusCode::kResourceExhausted && RetryLarger(slot, entry)) return;
  absl::Status status(code, ErrorText(slot, entry));
  // A worker skipped what was withdrawn. Without the bit CANCELLED is the model's own word.
  const bool dropped = (entry.flags & ipc::kCompletionDropped) != 0;
  const bool stale = (entry.flags & ipc::kCompletionStaleInputs) != 0;
  if (dropped && (code == absl::StatusCode::kCancelled || stale) && slot.withdrawn) {
    status = std::move(slot.status);
  }
  if (!more) EndRing(at);
  FinishUser(at, std::move(status));
}

void ChannelCore::CompleteOk(uint32_t index, const ipc::CompletionEntry& entry) {
  Slot& slot = slots_[index];
  // Its user reads the first output next, and then submits, mostly: both lines come over from the
  // worker's core meanwhile.
  ipc::PrefetchToRead(ResponseBytes(slot.response) + slot.plan->first_output);
  submissions_.Prefetch();
  if (!ReadOutputs(slot, entry)) return;
  absl::Status status;
  if (slot.has_device) status = LeaseResults(slot, entry.generation);
  if (!slot.kept) EndRing(index);
  FinishUser(index, std::move(status));
}

// ---- Ends --------------------------------------------------------------------------------------

void ChannelCore::FinishUser(uint32_t index, absl::Status status) {
  Slot& slot = slots_[index];
  slot.user = User::kReady;
  if (slot.stream != nullptr) {
    streams_.Finish(*slot.stream, std::move(status));
    return;
  }
  slot.status = std::move(status);
  if (!slot.listed) return;
  slot.next = kNoSlot;
  if (ready_tail_ == kNoSlot) {
    ready_head_ = index;
  } else {
    slots_[ready_tail_].next = index;
  }
  ready_tail_ = index;
  // Read by somebody else's Call while an event loop waits for it.
  if (armed_) ipc::SignalEventFd(event_.get());
}

uint32_t ChannelCore::NextOutcome() {
  const uint32_t index = ready_head_;
  if (index != kNoSlot) {
    ready_head_ = slots_[index].next;
    if (ready_head_ == kNoSlot) ready_tail_ = kNoSlot;
  }
  return index;
}

// The worker has no more to do with this slot's request block. The response
// block stays for as long as somebody may read it.
void ChannelCore::EndRing(uint32_t index) {
  Slot& slot = slots_[index];
  slot.outstanding = false;
  slot.kept = false;
  in_ring_ -= slot.places;
  if (slot.bound) {
    WipeSecrets(*slot.plan, slot.request);
  } else if (slot.has_request) {
    FreeRequest(slot);
  }
  if (slot.stream != nullptr) streams_.RingEnded(*slot.stream);
  if (slot.has_inputs || slot.input_arena != nullptr) EndInputs(slot);
  FreeIfDone(index);
}

void ChannelCore::Detach(Slot& slot) {
  // SYNC: request_cancelled. The counter after the flag: a worker that sees
  // the counter sees the flag.
  auto* header = reinterpret_cast<ipc::RequestBlockHeader*>(RequestBytes(slot.request));
  header->cancelled.store(1, std::memory_order_release);
  std::atomic<uint64_t>& count = front_state().cancellations;
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  // A stream may wait for its caller. A request that waits is found in the ring.
  if (slot.stream != nullptr) {
    ipc::WakeWorkerIfSleeping(session_->worker_page().sleeping, session_->doorbell_fd());
  }
}

absl::Status ChannelCore::TakeOutcome(uint32_t index) {
  Slot& slot = slots_[index];
  --unfinished_;
  absl::Status status = std::exchange(slot.status, absl::OkStatus());
  if (status.ok()) {
    slot.user = User::kLeased;
    if (!slot.bound) AddHandle();
  } else if (slot.bound) {
    slot.user = User::kLoaned;
  } else {
    slot.user = User::kNone;
    FreeIfDone(index);
  }
  return status;
}

absl::Status ChannelCore::Cancel(uint64_t id) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  const uint64_t index = id & ((1u << kSlotBits) - 1);
  if (index >= slots_.size() || slots_[index].id != id || slots_[index].user != User::kPending) {
    return absl::NotFoundError("no such request is waiting: it has ended, or was never submitted");
  }
  Detach(slots_[index]);
  slots_[index].user = slots_[index].bound ? User::kLoaned : User::kNone;
  --unfinished_;
  return absl::OkStatus();
}

void ChannelCore::FailAll(const absl::Status& status) {
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].user == User::kPending) FinishUser(i, status);
  }
}

void ChannelCore::Poison(const std::string& what) {
  broken_ =
      absl::DataLossError(absl::StrCat("the worker of server '", session_->server(),
                                       "' broke this channel: ", what, ". Open a new channel"));
  FailAll(broken_);
  ForgetResults();
}

// ---- Deadlines, deaths -------------------------------------------------------------------------

void ChannelCore::CheckRest(int64_t now) {
  if (!broken_.ok()) return;
  Settle();
  if (parked_ > 0) ResumeParked();
  if (session_->gone()) ServerGone();
  WithdrawForHold(now);
  if (now >= earliest_deadline_ns_) ExpireBefore(now);
}

void ChannelCore::ExpireBefore(int64_t now) {
  earliest_deadline_ns_ = INT64_MAX;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.user != User::kPending) continue;
    if (slot.deadline_ns > now) {
      earliest_deadline_ns_ = std::min(earliest_deadline_ns_, slot.deadline_ns);
      continue;
    }
    // For the words only; SYNC: request_taken.
    const uint64_t taken = worker_state().taken.load(std::memory_order_acquire);
    Detach(slot);
    FinishUser(
        i, absl::DeadlineExceededError(absl::StrCat(
               "no answer from server '", session_->server(), "' in time; the request ",
               WasStarted(slot, taken) ? "was started" : "had not been started", " (server state ",
               std::string(ipc::ServerStateName(static_cast<ipc::ServerState>(
                   session_->status_page().state.load(std::memory_order_relaxed)))),
               ")")));
  }
}

bool ChannelCore::WasStarted(const Slot& slot, uint64_t taken) {
  return (!slot.parked && Before(slot.sequence, taken)) || slot.retried || slot.resubmits > 0;
}

void ChannelCore::WithdrawForHold(int64_t now) {
  if (!broken_.ok()) return;
  const ipc::StatusPage& page = session_->status_page();
  const uint32_t epoch = page.epoch.load(std::memory_order_acquire);  // SYNC: status_changed
  if (epoch == hold_epoch_) return;
  const std::optional<Hold> hold = ReadHold(page, now);
  // Changing right now: its next epoch wakes who sleeps, and is looked at then.
  if (page.epoch.load(std::memory_order_acquire) != epoch) return;
  hold_epoch_ = epoch;
  if (!hold || (unfinished_ == 0 && streams_.empty())) return;
  // What was started before this is left alone. SYNC: request_taken
  uint64_t taken = worker_state().taken.load(std::memory_order_acquire);
  bool any = false;
  for (Slot& slot : slots_) {
    if (slot.user != User::kPending || slot.withdrawn || slot.deadline_ns >= hold->until_ns ||
        WasStarted(slot, taken)) {
      continue;
    }
    slot.withdrawn = true;
    slot.status = NotBeforeTheHoldEnds(session_->server(), *hold, now);
    Detach(slot);
    any = true;
  }
  if (!any) return;
  // SYNC: request_cancelled, as in ServerGone: what does not show as taken now
  // never starts. What does was taken meanwhile: its worker runs it, or has
  // found it cancelled, and says which.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  taken = worker_state().taken.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.user != User::kPending || !slot.withdrawn || WasStarted(slot, taken)) continue;
    FinishUser(i, std::move(slot.status));
  }
}

void ChannelCore::LoseBefore(uint64_t boundary) {
  if (Before(submissions_.next(), boundary)) {
    Poison("it says that it took requests that were never submitted");
    return;
  }
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (!slot.outstanding || slot.parked || !Before(slot.sequence, boundary)) continue;
    if (slot.user == User::kPending && slot.idempotent && !slot.retried) {
      slot.retried = true;
      Republish(slot);
      continue;
    }
    const bool pending = slot.user == User::kPending;
    EndRing(i);
    if (pending) {
      FinishUser(i, absl::AbortedError(absl::StrCat(
                        "the worker of server '", session_->server(),
                        "' died after it had started this request; it may have had effects. Send "
                        "it again if that does no harm (CallOptions::idempotent does so)")));
    }
  }
}

// See "Settling a dead worker's requests" in DESIGN.md.
void ChannelCore::Settle() {
  const ipc::WorkerState& worker = worker_state();
  // SYNC: generation_resumed
  const uint64_t resumed = worker.resume_generation.load(std::memory_order_acquire);
  const uint64_t boundary = worker.resume_taken.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (worker.resume_generation.load(std::memory_order_relaxed) != resumed) return;  // look later
  if (resumed != 0 && resumed != settled_resume_) {
    // What the worker before had published is there: it came before the record.
    ReadCompletions();
    if (!broken_.ok()) return;
    settled_resume_ = resumed;
    LoseBefore(boundary);
    return;
  }
  const uint64_t reaped = session_->status_page().reaped_generation.load(std::memory_order_acquire);
  if (reaped <= settled_reaped_) return;
  if (resumed > reaped) {
    settled_reaped_ = reaped;  // its successor's record has told all there is to know
    return;
  }
  const uint64_t taken = worker.taken.load(std::memory_order_acquire);  // SYNC: request_taken
  std::atomic_thread_fence(std::memory_order_acquire);
  // A successor that began meanwhile may have taken requests already: then its
  // record is what counts.
  if (worker.resume_generation.load(std::memory_order_relaxed) != resumed) return;
  ReadCompletions();
  if (!broken_.ok()) return;
  settled_reaped_ = reaped;
  LoseBefore(taken);
}

void ChannelCore::ServerGone() {
  ReadCompletions();
  if (!broken_.ok()) return;
  // Its worker dies with it, but may still be at it: keep it from taking more.
  for (Slot& slot : slots_) {
    if (slot.user == User::kPending) Detach(slot);
  }
  // SYNC: request_cancelled. Either the worker sees that they are cancelled,
  // or what it started shows here: what is called "not started" never is.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint64_t taken = worker_state().taken.load(std::memory_order_acquire);
  const std::string server = absl::StrCat("server '", session_->server(), "' ended");
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].user != User::kPending) continue;
    FinishUser(
        i, WasStarted(slots_[i], taken)
               ? absl::AbortedError(absl::StrCat(
                     server, " after its worker had started this request; it may have had effects"))
               : absl::UnavailableError(absl::StrCat(server, " before this request was started")));
  }
  broken_ =
      absl::UnavailableError(absl::StrCat(server, ": attach again when it has been restarted"));
}

}  // namespace baton::internal

// How a channel waits: by spinning, asleep on a futex, or in its user's event loop.
#include <algorithm>

#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "runtime/front/channel_core.h"

namespace baton::internal {
namespace {

// A pause after each look: who looks without one takes the entry's line from the worker between its
// stores, which costs more than what the pause lasts (Bound/64: 600 ns against 450).
constexpr int kSpinsPerClock = 32;
// How often one that never sleeps looks at what is not a completion.
constexpr int64_t kBusyCheckNs = 20'000;
constexpr int64_t kLongestSleepNs = 1'000'000'000;

}  // namespace

template <typename Done>
void ChannelCore::Sleep(Done&& done, int64_t deadline_ns) {
  const ipc::WorkerState& worker = worker_state();
  const ipc::StatusPage& status = session_->status_page();
  // Everything that is waited for, as it was before the last look at it.
  const uint32_t wakes = worker.wake_count.load(std::memory_order_acquire);
  const uint32_t epoch = status.epoch.load(std::memory_order_acquire);  // SYNC: status_changed
  const uint32_t event = session_->event_word().load(std::memory_order_acquire);
  // SYNC: front_sleeps. The flag, a full fence, then the last look.
  front_state().sleeping.store(ipc::kFrontOnFutex, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const int64_t now = clock_.NowNs();
  CheckRest(now);
  if (!done() && broken_.ok() && !completions_.Ready()) {
    const ipc::FutexWord words[] = {
        {&worker.wake_count, wakes}, {&status.epoch, epoch}, {&session_->event_word(), event}};
    ipc::FutexWaitAny(words, std::min({deadline_ns, earliest_deadline_ns_, now + kLongestSleepNs}));
  }
  // An event loop that armed the eventfd before this call still counts on it.
  front_state().sleeping.store(armed_ ? ipc::kFrontOnEventFd : ipc::kFrontAwake,
                               std::memory_order_relaxed);
  if (armed_) {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // SYNC: front_sleeps
    if (completions_.Ready()) ipc::SignalEventFd(event_.get());
  }
}

template <typename Done>
bool ChannelCore::WaitUntil(Done&& done, int64_t now, int64_t deadline_ns) {
  const int64_t began = now;
  bool slept = false;
  for (;;) {
    const int64_t spin_until = now + (options_.busy_poll ? kBusyCheckNs : spin_.budget_ns());
    do {
      for (int i = 0; i < kSpinsPerClock; ++i) {
        if (completions_.Ready()) ReadCompletions();
        if (done()) {
          if (now != began) spin_.Observe(clock_.NowNs() - began, slept);
          return true;
        }
        ipc::SpinPause();
      }
      now = clock_.NowNs();
    } while (now < spin_until && now < deadline_ns && now < earliest_deadline_ns_);
    CheckRest(now);
    if (done()) {
      spin_.Observe(now - began, slept);
      return true;
    }
    if (now >= deadline_ns || !broken_.ok()) return false;
    if (options_.busy_poll) continue;
    Sleep(done, deadline_ns);
    slept = true;
    now = clock_.NowNs();
  }
}

bool ChannelCore::WaitFor(absl::FunctionRef<bool()> done, int64_t now, int64_t deadline_ns) {
  return WaitUntil(done, now, deadline_ns);
}

absl::StatusOr<uint32_t> ChannelCore::Call(uint32_t index, const CallOptions& options,
                                           bool* accepted) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  // An idle worker has looked at this line since it was fetched with the answer before.
  submissions_.Prefetch();
  const int64_t now = clock_.NowNs();
  if (absl::Status status = Start(index, options, now); !status.ok()) return status;
  *accepted = true;
  --handles_;
  Slot& slot = slots_[index];
  slot.listed = false;
  AwaitEnd(slot, now);
  if (absl::Status status = TakeOutcome(index); !status.ok()) return status;
  return index;
}

void ChannelCore::AwaitEnd(Slot& slot, int64_t now) {
  WaitUntil([&slot] { return slot.user == User::kReady; }, now, INT64_MAX);
  if (slot.user == User::kReady) return;
  FinishUser(static_cast<uint32_t>(&slot - slots_.data()), broken_);
}

uint32_t ChannelCore::Poll() { return LookForOutcomes() ? NextOutcome() : kNoSlot; }

bool ChannelCore::LookForOutcomes() {
  if (session_->forked()) return false;
  ReadCompletions();
  // Where nothing came, a look at the clock costs nobody anything; where
  // something always comes, deadlines count all the same.
  if (ready_head_ == kNoSlot || ++polls_ % kPollsPerCheck == 0) CheckRest(clock_.NowNs());
  return true;
}

uint32_t ChannelCore::Wait(absl::Duration timeout) {
  if (session_->forked()) return kNoSlot;
  ReadCompletions();
  // As in Poll: deadlines count also where something always comes.
  if (ready_head_ != kNoSlot && ++polls_ % kPollsPerCheck == 0) CheckRest(clock_.NowNs());
  if (ready_head_ == kNoSlot && unfinished_ > 0) {
    const int64_t now = clock_.NowNs();
    const int64_t longest = std::max<int64_t>(absl::ToInt64Nanoseconds(timeout), 0);
    const int64_t deadline = longest > INT64_MAX - now ? INT64_MAX : now + longest;
    WaitUntil([this] { return ready_head_ != kNoSlot; }, now, deadline);
  }
  return NextOutcome();
}

bool ChannelCore::Arm() {
  if (!event_ || session_->forked()) return true;
  // SYNC: front_sleeps
  front_state().sleeping.store(ipc::kFrontOnEventFd, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  ReadCompletions();
  CheckRest(clock_.NowNs());
  armed_ = ready_head_ == kNoSlot && !completions_.Ready() && broken_.ok() && !streams_.AnyReady();
  if (!armed_) front_state().sleeping.store(ipc::kFrontAwake, std::memory_order_relaxed);
  return !armed_;
}

void ChannelCore::ClearEvent() {
  if (!event_ || session_->forked()) return;
  armed_ = false;
  front_state().sleeping.store(ipc::kFrontAwake, std::memory_order_relaxed);
  ipc::DrainEventFd(event_.get());
}

}  // namespace baton::internal

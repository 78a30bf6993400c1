// Session: inputs on the device, from one generation's arena to the next.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "runtime/front/session.h"

namespace baton::internal {

void Session::AddInputs(std::shared_ptr<ChannelInputs> inputs) {
  const uint64_t channel = inputs->channel();
  leases_.AddInputs(channel, std::move(inputs));
  ipc::SignalEventFd(wake_.get());
}

absl::Status Session::AwaitInputs(const ChannelInputs& inputs) {
  std::unique_lock lock(mutex_);
  const auto there = [&] {
    const uint64_t newest = leases_.newest();
    return gone() || (newest != 0 && inputs.Adopted(newest));
  };
  if (!answered_.wait_for(lock, absl::ToChronoNanoseconds(options_.connect_timeout), there)) {
    return absl::UnavailableError(absl::StrCat("no device arena of server '", server_,
                                               "' could be made writable within ",
                                               absl::FormatDuration(options_.connect_timeout)));
  }
  if (gone()) return absl::UnavailableError(absl::StrCat("server '", server_, "' has ended"));
  return inputs.Writable(leases_.newest());
}

void Session::CloseInputs(const std::shared_ptr<ChannelInputs>& inputs) {
  if (forked()) return;
  leases_.RemoveInputs(inputs->channel());
  if (inputs->Close()) {
    CloseChannel(inputs->channel());
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    closing_inputs_.push_back(inputs);
  }
  ipc::SignalEventFd(wake_.get());
}

absl::StatusOr<LeasedArena*> Session::LeaseForInputs(uint64_t channel) {
  const uint64_t serving = status_page().generation.load(std::memory_order_acquire);
  const ArenaLeases::Acquired acquired = leases_.AcquireForInputs(channel, serving);
  if (acquired.arena == nullptr) return NotLeased(acquired.closing);
  return acquired.arena;
}

void Session::OnArenas(bool may_hang, DeviceThread::Job job, DeviceThread::Job done) {
  if (may_hang) {
    // Arenas that are let go are let go on that thread, too, after this.
    device_thread_.Run(std::move(job), std::move(done));
    return;
  }
  job();
  done();
}

// Something has become of inputs: whoever waits looks again.
void Session::InputsSeenTo() {
  {
    const std::lock_guard lock(mutex_);  // for who is about to wait
  }
  answered_.notify_all();
  event_word_.fetch_add(1, std::memory_order_release);
  ipc::FutexWakeAll(&event_word_);
}

void Session::LoseInputs(const absl::Status& why) {
  for (const std::shared_ptr<ChannelInputs>& inputs : leases_.Inputs()) inputs->Lose(why);
  InputsSeenTo();
}

void Session::SeeToInputs() {
  {
    std::unique_lock lock(mutex_);
    std::vector<std::shared_ptr<ChannelInputs>> over;
    std::erase_if(closing_inputs_, [&](const std::shared_ptr<ChannelInputs>& inputs) {
      if (!inputs->TakeOwedClose()) return false;
      over.push_back(inputs);
      return true;
    });
    lock.unlock();
    for (const std::shared_ptr<ChannelInputs>& inputs : over) CloseChannel(inputs->channel());
  }
  const std::vector<std::shared_ptr<ChannelInputs>> channels = leases_.Inputs();
  if (channels.empty()) return;
  // Of channels that were opened after the arena was mapped.
  const std::vector<LeasedArena*> staying = leases_.Staying();
  for (LeasedArena* const arena : staying) {
    const uint64_t generation = arena->generation();
    if (std::ranges::all_of(channels, [&](const auto& c) { return c->Adopted(generation); }) ||
        !adopting_.insert(generation).second) {
      continue;
    }
    OnArenas(
        arena->closing_may_hang(),
        [channels, arena] {
          for (const auto& inputs : channels) {
            if (!inputs->Adopted(arena->generation())) inputs->Adopt(arena->arena());
          }
        },
        [this, generation] {
          adopting_.erase(generation);
          InputsSeenTo();
        });
  }
  for (LeasedArena* const from : leases_.WithWaitingInputs()) {
    const uint64_t generation = from->generation();
    if (!moving_.insert(generation).second) continue;
    LeasedArena* const to =
        staying.empty() || staying.back()->generation() < generation ? nullptr : staying.back();
    OnArenas(
        from->closing_may_hang() || (to != nullptr && to->closing_may_hang()),
        [channels, from, to] {
          for (const auto& inputs : channels) {
            inputs->Move(from->arena(), to == nullptr ? nullptr : &to->arena());
          }
        },
        [this, generation] {
          moving_.erase(generation);
          InputsSeenTo();
        });
  }
}

}  // namespace baton::internal

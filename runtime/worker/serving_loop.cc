#include "runtime/worker/serving_loop.h"

#include <algorithm>
#include <utility>

#include "ipc/crash_point.h"
#include "ipc/futex.h"
#include "runtime/worker/batch_gatherer.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {
namespace {

constexpr char kCallerGone[] = "the stream's caller has gone";

}  // namespace

ServingLoop::ServingLoop(const Options& options, ipc::WorkerPage& page, CommandQueue& commands,
                         ServingReplies& replies)
    : generation_(options.generation),
      heartbeat_ms_(options.heartbeat_ms),
      page_(page),
      commands_(commands),
      replies_(replies),
      spin_(options.spin),
      sleep_(page.sleeping, options.doorbell_fd, commands.event_fd()),
      may_spin_(options.spin.budget_ns() > 0),
      gather_spin_(options.spin) {}

std::optional<Command> ServingLoop::WaitForAdmission() {
  while (state_ != State::kExiting && !admission_) {
    if (!commands_.pending()) sleep_.SleepForCommand(/*timeout_ms=*/-1);
    ApplyCommands();
  }
  if (state_ == State::kExiting) return std::nullopt;
  return std::exchange(admission_, std::nullopt);
}

void ServingLoop::UseDevice(const ChannelDevice& device) {
  device_ = device;
  for (Channel& channel : channels_) channel.server->UseDevice(device);
}

void ServingLoop::Run(loader::Model& model) {
  max_calls_ = std::max<size_t>(model.max_streams(), 1);
  if (max_calls_ == 1) {
    while (Turn(model)) {
    }
    return;
  }
  CallThreads threads({.concurrent = model.concurrent_calls(),
                       .sleeping = &page_.sleeping,
                       .wake_fd = commands_.event_fd(),
                       .prepare = [this] { PrepareCallThread(); }});
  call_threads = &threads;
  while (Turn(model)) {
  }
  call_threads = nullptr;
}

void ServingLoop::PrepareCallThread() const {
  if (call_cpus_) {
    const absl::Status cpus = call_cpus_->UseForThisThread();
    if (!cpus.ok()) spdlog::error("a thread for calls: {}", std::string(cpus.message()));
  }
  if (device_.device == nullptr) return;
  if (const absl::Status current = device_.device->MakeCurrent(); !current.ok()) {
    spdlog::error("device {} on a thread for calls: {}", std::string(device_.device->name()),
                  std::string(current.message()));
  }
}

bool ServingLoop::Turn(loader::Model& model) {
  if (commands_.pending()) ApplyCommands();
  if (removals_ > 0) DropRemoved();
  switch (state_) {
    case State::kExiting:
      if (EndCalls()) return false;
      if (!StepCalls()) Wait();
      break;
    case State::kServing:
      if (!ServeTurn(model)) Wait();
      break;
    case State::kStandby:
      sleep_.SleepForCommand(/*timeout_ms=*/-1);
      break;
    case State::kHeld:
      // Also what came while a call waited for its caller.
      AnswerHold();
      if (active_calls > 0) {
        if (!StepCalls()) Wait();
        break;
      }
      sleep_.SleepForCommand(heartbeat_ms_);
      Heartbeat(ipc::MonotonicNs());
      break;
  }
  return true;
}

bool ServingLoop::EndCalls() {
  for (Channel& channel : channels_) {
    channel.server->EndCalls(
        absl::AbortedError("the worker had to end; the stream may have had effects"), page_);
  }
  return active_calls == 0;
}

void ServingLoop::ApplyCommands() {
  for (Command& command : commands_.TakeAll()) Apply(command);
}

void ServingLoop::Apply(Command& command) {
  ++applied_;
  switch (command.kind) {
    case Command::Kind::kAdmit:
      admission_ = std::move(command);
      break;
    case Command::Kind::kServe:
      if (state_ != State::kExiting) Serve();
      break;
    case Command::Kind::kHold:
      // In flight may be streams, what has a thread of its own, and the call that this comes in
      // the middle of.
      if (state_ == State::kServing) state_ = State::kHeld;
      hold_call_ = command.call;
      AnswerHold();
      break;
    case Command::Kind::kExit:
      state_ = State::kExiting;
      break;
    case Command::Kind::kAddChannel:
      command.server->Join(*this);
      if (device_.device != nullptr) command.server->UseDevice(device_);
      channels_.push_back({.server = std::move(command.server)});
      ForgetRecent();
      if (state_ == State::kServing) BeginChannels();
      break;
    case Command::Kind::kRemoveChannel:
      Remove(command);
      break;
    case Command::Kind::kReleaseInputs:
      for (Channel& channel : channels_) channel.server->ReleaseInputs();
      break;
  }
}

void ServingLoop::AnswerHold() {
  if (!hold_call_ || active_calls > 0 || awaiting_) return;
  const uint64_t call = *std::exchange(hold_call_, std::nullopt);
  if (!BATON_FAIL_POINT("worker.hold")) replies_.Held(call);
}

void ServingLoop::Serve() {
  hold_call_.reset();
  // From here on the page is ours. The worker before may have died asleep, or
  // have taken a wake-up with it: every channel is looked at before this one
  // sleeps (SYNC: worker_sleeps). Relaxed: each field stands for itself.
  page_.sleeping.store(0, std::memory_order_relaxed);
  page_.busy_since_ns.store(0, std::memory_order_relaxed);
  page_.generation.store(generation_, std::memory_order_relaxed);
  Heartbeat(ipc::MonotonicNs());
  state_ = State::kServing;
  BeginChannels();
}

void ServingLoop::BeginChannels() {
  for (Channel& channel : channels_) {
    if (channel.begun) continue;
    const absl::Status begun = channel.server->Begin(generation_);
    channel.begun = begun.ok();
    if (begun.ok()) continue;
    const uint64_t number = channel.server->channel();
    spdlog::error("channel {} is dropped: {}", number, std::string(begun.message()));
    channel.server.reset();
    replies_.ChannelRefused(/*call=*/0, number, begun);
  }
  std::erase_if(channels_, [](const Channel& channel) { return channel.server == nullptr; });
  ForgetRecent();
}

void ServingLoop::Remove(const Command& command) {
  const auto found = std::find_if(channels_.begin(), channels_.end(), [&](const Channel& channel) {
    return channel.server->channel() == command.channel;
  });
  const bool awaits = awaiting_ == command.channel;
  if (found != channels_.end() && (awaits || found->server->on_threads())) {
    if (!found->removal) ++removals_;
    found->removal = command.call;
    // Its own call, which this comes in the middle of, ends by it.
    if (!awaits) found->server->EndCalls(absl::CancelledError(kCallerGone), page_);
    return;
  }
  if (found != channels_.end()) channels_.erase(found);
  ForgetRecent();
  // Also when it was not there: it may have been dropped before.
  replies_.ChannelRemoved(command.call, command.channel);
}

void ServingLoop::DropRemoved() {
  for (size_t i = channels_.size(); i > 0; --i) {
    const Channel& channel = channels_[i - 1];
    if (!channel.removal || channel.server->on_threads()) continue;
    const uint64_t call = *channel.removal;
    const uint64_t number = channel.server->channel();
    channels_.erase(channels_.begin() + static_cast<ptrdiff_t>(i - 1));
    ForgetRecent();
    --removals_;
    replies_.ChannelRemoved(call, number);
  }
}

bool ServingLoop::ServeTurn(loader::Model& model) {
  if (gatherer_ != nullptr) return BatchTurn(model);
  const bool recent_only = active_calls == 0 && !recent_.empty() && last_ns_ - swept_ns_ < kSweepNs;
  return recent_only ? ServeRecent(model) : Sweep(model);
}

bool ServingLoop::Serve(Channel& channel, loader::Model& model) {
  const uint64_t applied = applied_;
  if (channel.server->ServeBurst(model, page_, &last_ns_) == 0) return false;
  // Else channels may have moved.
  if (applied_ == applied) channel.last_sweep = sweep_;
  return true;
}

bool ServingLoop::ServeRecent(loader::Model& model) {
  bool served = false;
  const uint64_t applied = applied_;
  for (size_t i = 0; i < recent_.size(); ++i) {
    Channel& channel = channels_[recent_[i]];
    // Its next entry comes over from the front's core meanwhile.
    if (i + 1 < recent_.size()) channels_[recent_[i + 1]].server->Prefetch();
    if (channel.removal) continue;
    served |= Serve(channel, model);
    // What began may be a call that goes on, or have waited: then all is looked at again.
    if (commands_.pending() || applied_ != applied || active_calls > 0) return true;
  }
  return served;
}

bool ServingLoop::Sweep(loader::Model& model) {
  bool served = false;
  // A call that waits for its caller has commands applied, which may be a hold, or the end of
  // channels: whatever was known of them is looked at again then.
  const uint64_t applied = applied_;
  swept_ns_ = last_ns_;
  ++sweep_;
  for (size_t turn = channels_.size(); turn > 0; --turn) {
    if (commands_.pending() || applied_ != applied) return true;
    if (next_ >= channels_.size()) next_ = 0;
    const size_t index = next_++;
    ChannelServer& server = *channels_[index].server;
    if (next_ < channels_.size()) channels_[next_].server->Prefetch();
    const bool takes = !channels_[index].removal;
    if (active_calls > 0) {
      served |= server.StepCalls(page_);
      // A step may have taken long, or waited.
      if (commands_.pending() || applied_ != applied) return true;
      if (!HasRoom()) continue;
    }
    if (takes) served |= Serve(channels_[index], model);
  }
  if (applied_ != applied) return true;
  ForgetRecent();
  for (size_t i = 0; i < channels_.size(); ++i) {
    if (channels_[i].last_sweep + kRecentSweeps > sweep_) AddRecent(i);
  }
  return served;
}

void ServingLoop::ForgetRecent() {
  for (Channel& channel : channels_) channel.recent = false;
  recent_.clear();
  recent_.reserve(channels_.size());
  glimpses_.reserve(channels_.size());
}

void ServingLoop::AddRecent(size_t index) {
  if (std::exchange(channels_[index].recent, true)) return;
  recent_.push_back(index);
}

bool ServingLoop::StepCalls() {
  bool stepped = false;
  // By number: a step that waits may have channels added and removed.
  for (size_t i = 0; i < channels_.size(); ++i) stepped |= channels_[i].server->StepCalls(page_);
  return stepped;
}

bool ServingLoop::Wanted() const {
  if (commands_.pending()) return true;
  const bool takes = state_ == State::kServing && HasRoom();
  return std::any_of(channels_.begin(), channels_.end(), [&](const Channel& channel) {
    return (takes && !channel.removal && channel.server->HasWork()) ||
           (active_calls > 0 && channel.server->CallsHaveWork());
  });
}

bool ServingLoop::PrepareGlimpses() {
  glimpses_.clear();
  if (state_ != State::kServing || active_calls > 0 || gatherer_ != nullptr) return false;
  for (const size_t index : recent_) {
    if (channels_[index].removal) continue;
    const ipc::NextEntry next = channels_[index].server->Next();
    if (next.stamp == nullptr) return false;
    glimpses_.push_back(next);
  }
  return true;
}

bool ServingLoop::Glimpse() {
  if (commands_.pending()) return true;
  for (const ipc::NextEntry& next : glimpses_) {
    if (next.Ready()) return true;
  }
  for (int i = 0; i < kOthersAGlimpse && recent_.size() < channels_.size(); ++i) {
    if (next_ >= channels_.size()) next_ = 0;
    if (channels_[next_].server->HasWork() && !channels_[next_].removal) {
      AddRecent(next_);
      return true;
    }
    ++next_;
  }
  return false;
}

absl::Status ServingLoop::Await(uint64_t channel, absl::FunctionRef<bool()> wanted) {
  awaiting_ = channel;
  if (commands_.pending()) ApplyCommands();
  absl::Status going = CheckGoing(channel);
  if (going.ok()) WaitFor(wanted);
  awaiting_.reset();
  return going;
}

void ServingLoop::WaitFor(absl::FunctionRef<bool()> wanted) {
  const auto look = [&] { return wanted() || commands_.pending(); };
  const int64_t start = ipc::MonotonicNs();
  Heartbeat(start);
  const ipc::SpinOutcome spun =
      ipc::SpinUntil(look, start, std::min(spin_.budget_ns(), heartbeat_ns()));
  if (spun.came) {
    spin_.Observe(spun.waited_ns, /*slept=*/false);
    return;
  }
  sleep_.Sleep(look, heartbeat_ms_);
  const int64_t now = ipc::MonotonicNs();
  Heartbeat(now);
  spin_.Observe(now - start, /*slept=*/true);
}

absl::Status ServingLoop::CheckGoing(uint64_t channel) const {
  if (state_ == State::kExiting) {
    return absl::AbortedError("the worker has to end; the stream may have had effects");
  }
  const bool removed = std::any_of(channels_.begin(), channels_.end(), [&](const Channel& c) {
    return c.removal && c.server->channel() == channel;
  });
  if (removed) return absl::CancelledError(kCallerGone);
  return absl::OkStatus();
}

void ServingLoop::InputsReleased() { commands_.Push({.kind = Command::Kind::kReleaseInputs}); }

void ServingLoop::Wait() {
  const auto wanted = [this] { return Wanted(); };
  const int64_t start = clock.NowNs();
  const int64_t budget_ns = spin_.budget_ns();
  const bool may_glimpse = PrepareGlimpses();
  last_ns_ = start;
  do {
    Heartbeat(last_ns_);
    const ipc::SpinOutcome spun =
        ipc::SpinUntil([&] { return may_glimpse ? Glimpse() : wanted(); }, last_ns_,
                       std::min(start + budget_ns - last_ns_, heartbeat_ns()));
    last_ns_ += spun.waited_ns;
    if (spun.came) {
      spin_.Observe(last_ns_ - start, /*slept=*/false);
      return;
    }
  } while (last_ns_ - start < budget_ns);
  do {
    // All rings are looked at again from time to time for all that: the doorbell is every front's,
    // and one that is broken could have read it empty. A stream's deadline rings nothing at all.
    const int beats = active_calls > 0 ? 1 : kBeatsALook;
    sleep_.SleepAndBeat(wanted, heartbeat_ns(), beats, [this] { Heartbeat(clock.NowNs()); });
    last_ns_ = clock.NowNs();
    Heartbeat(last_ns_);
  } while (!Wanted());
  // Whoever it was, it is found.
  swept_ns_ = last_ns_ - kSweepNs;
  spin_.Observe(last_ns_ - start, /*slept=*/true);
}

void ServingLoop::Heartbeat(int64_t now_ns) {
  // Relaxed: advice about timing, it guards nothing.
  page_.heartbeat_ns.store(now_ns, std::memory_order_relaxed);
}

}  // namespace baton::runtime

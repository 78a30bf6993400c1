// ReloadMachine: the moves from step to step.
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "runtime/supervisor/reload_machine.h"

namespace baton::runtime {

using State = ipc::ServerState;

namespace {

// How often what is newest may fail to come up before what was last good is used.
constexpr int kNewestTries = 2;

}  // namespace

void ReloadMachine::MoveTo(State to) {
  if (!Allowed(step_, to)) std::abort();  // a bug of this file, met by the tests
  step_ = to;
  step_deadline_ns_ = 0;
  Emit(Action::kEnter, served_);
  actions_.back().step = to;
}

void ReloadMachine::BeginReload(const std::string& trigger) {
  // What awaits its retry is in this one.
  only_secrets_ = trigger == "secrets" && (retry_at_ns_ == 0 || only_secrets_);
  healthy_at_ns_ = retry_at_ns_ = 0;
  override_ = std::exchange(again_override_, false);
  kept_retry_ = false;
  kept_why_.clear();
  trigger_ = trigger;
  Emit(Action::kBegin, old_.generation);
  actions_.back().detail = trigger;
}

void ReloadMachine::Spawn() {
  spawn_at_ns_ = 0;
  next_ = {};
  next_.generation = ++last_generation_;
  next_.phase = Phase::kStaging;
  next_.last_good = served_ != 0 && newest_failures_ >= kNewestTries;
  load_deadline_ns_ = After(policy_.load_timeout);
  // It reads what is newest: what was asked for while the one before it was on its way is in it.
  if (!next_.last_good && std::exchange(again_, false)) {
    override_ = std::exchange(again_override_, false) || override_;
    Emit(Action::kJoin);
  }
  Emit(Action::kSpawn, next_.generation);
  actions_.back().last_good = next_.last_good;
}

void ReloadMachine::SpawnWhenDue() {
  if (!stopping_ && next_.phase == Phase::kNone) Spawn();
}

void ReloadMachine::ScheduleSpawn() {
  if (stopping_) return;
  ++failures_;
  if (failures_ == 1) {
    SpawnWhenDue();
    return;
  }
  // 2^20 * 100 ms is more than any limit that makes sense.
  const auto doublings = static_cast<int>(std::min<uint64_t>(failures_ - 2, 20));
  const absl::Duration delay =
      std::min(backoff_.first * (int64_t{1} << doublings), backoff_.longest);
  absl::StrAppend(&reason_, "; trying again in ", absl::FormatDuration(delay), " (failure ",
                  failures_, " in a row)");
  spawn_at_ns_ = After(delay);
}

void ReloadMachine::DropNext() {
  if (next_.phase != Phase::kNone) Emit(Action::kKill, next_.generation);
  next_ = {};
  load_deadline_ns_ = 0;
}

// It goes without having served: the receipt of the reload is about another one.
void ReloadMachine::TellFailedGeneration() {
  if (old_.phase == Phase::kServing) return;
  Emit(Action::kFailedGeneration, old_.generation);
  actions_.back().detail = old_.why;
}

// The successor goes the way of an old worker: it may hold device memory.
void ReloadMachine::RetireNext(const std::string& why, bool gentle) {
  old_ = std::exchange(next_, {});
  old_.why = why;
  old_.gentle = gentle;
  load_deadline_ns_ = 0;
  if (!gentle || old_.phase != Phase::kReady) Emit(Action::kKill, old_.generation);
  EnterClosing();
}

// As RetireNext, while the one that was to be replaced serves on.
void ReloadMachine::RetireNextBesideOld(const std::string& why, bool gentle) {
  kept_why_ = why;
  reason_ = why;
  overlap_ = false;
  if (step_ == State::kDraining) {
    Emit(Action::kServe, old_.generation);
    Emit(Action::kTellKept, old_.generation);
  }
  beside_ = std::exchange(old_, {});
  RetireNext(why, gentle);
}

void ReloadMachine::Admit() {
  next_.phase = Phase::kAdmitted;
  load_deadline_ns_ = After(policy_.load_timeout);
  Emit(Action::kAdmit, next_.generation);
}

void ReloadMachine::EnterHolding() {
  MoveTo(State::kHolding);
  Emit(Action::kHold, old_.generation);
  Emit(Action::kTellClosing, old_.generation);
  MoveTo(State::kDraining);
  step_deadline_ns_ = After(policy_.drain_timeout);
  held_ = false;
  holders_.clear();
  // Where the device has room for both, and where the server ends anyway, CLOSING waits for them.
  returned_ = overlap_ || stopping_;
}

void ReloadMachine::AwaitMapped() {
  MoveTo(State::kRemapping);
  step_deadline_ns_ = After(policy_.close_timeout);
  Emit(Action::kMapImports, next_.generation);
}

void ReloadMachine::EnterClosing() {
  MoveTo(State::kClosing);
  step_deadline_ns_ = After(policy_.close_timeout);
  Emit(Action::kCloseImports, old_.generation);
}

void ReloadMachine::EnterExiting() {
  MoveTo(State::kExiting);
  kill_sent_ = false;
  if (old_.reaped) {
    EnterConfirming();
    return;
  }
  step_deadline_ns_ = After(policy_.cleanup_timeout);
  const bool can_clean_up = old_.phase == Phase::kReady || old_.phase == Phase::kServing;
  Emit(can_clean_up && (old_.gentle || old_.why.empty()) ? Action::kExit : Action::kKill,
       old_.generation);
}

void ReloadMachine::EnterConfirming() {
  MoveTo(State::kConfirming);
  verdict_ = "unknown";
  unconfirmed_ = false;
  step_deadline_ns_ = After(policy_.confirm_timeout);
  Emit(Action::kConfirm, old_.generation);
}

void ReloadMachine::EnterServing() {
  const bool first = step_ == State::kStarting;
  old_ = std::exchange(next_, {});
  TellServes(old_);
  MoveTo(State::kServing);
  if (!first) {
    Emit(Action::kFinish, served_);
    actions_.back().outcome = "swapped";
    actions_.back().detail = reason_;
  }
  if (std::exchange(again_, false)) OnReloadRequested(again_trigger_);
}

// From here on `worker` is the one that answers.
void ReloadMachine::TellServes(Worker& worker) {
  worker.phase = Phase::kServing;
  served_ = worker.generation;
  kept_in_a_row_ = 0;
  reason_.clear();
  if (worker.last_good) {
    reason_ =
        "the newest secrets and configuration did not come up twice: it serves with the last good "
        "ones";
  } else {
    newest_failures_ = 0;
  }
  if (failures_ > 0) healthy_at_ns_ = After(backoff_.healthy_after);
  Emit(Action::kServe, served_);
}

// `overlap`: the successor serves, and the old one is on its way out.
void ReloadMachine::Promote() {
  overlap_ = false;
  beside_ = std::exchange(next_, {});
  TellServes(beside_);
  EnterClosing();
}

// ---- the end of a worker ----

void ReloadMachine::Override() {
  Emit(Action::kOverridden, old_.generation);
  actions_.back().detail = verdict_;
  reason_.clear();
  LeaveConfirming();
}

void ReloadMachine::LeaveConfirming() {
  if (stopping_ && beside_.phase == Phase::kNone) {
    Stopped();
    return;
  }
  TellFailedGeneration();
  old_ = {};
  verdict_.clear();
  if (beside_.phase == Phase::kServing) {
    EndBeside();
    return;
  }
  if (beside_.phase != Phase::kNone) {
    ResumeBeside();
    return;
  }
  if (next_.phase == Phase::kNone) {
    MoveTo(State::kUnavailable);
    return;
  }
  MoveTo(State::kAdmitting);
  if (next_.phase == Phase::kStaged) Admit();
}

// The one that served beside is the only one now; it may have died meanwhile.
void ReloadMachine::EndBeside() {
  old_ = std::exchange(beside_, {});
  const std::string died = old_.reaped ? reason_ : "";
  if (unconfirmed_ && !old_.reaped) reason_ = kept_why_;
  MoveTo(State::kServing);
  if (kept_why_.empty()) {
    Emit(Action::kFinish, served_);
    actions_.back().outcome = "swapped";
    actions_.back().detail = reason_;
    if (!stopping_ && !old_.reaped && std::exchange(again_, false)) {
      OnReloadRequested(again_trigger_);
      return;
    }
  } else {
    const bool again = std::exchange(again_, false) && !stopping_ && !old_.reaped;
    FinishKeptOld(kept_why_, kept_retry_ && !again && !stopping_ && !old_.reaped);
    if (again) {
      OnReloadRequested(again_trigger_);
      return;
    }
  }
  if (old_.reaped) {
    again_ = false;  // what comes up next is the newest
    reason_ = died;
    BeginReload(stopping_ ? "stop" : "worker-death");
    ScheduleSpawn();
    EnterClosing();
  } else if (stopping_) {
    StopServing();
  }
}

// The one before it died while it came up: now it is its turn, as far as it has come.
void ReloadMachine::ResumeBeside() {
  next_ = std::exchange(beside_, {});
  MoveTo(State::kAdmitting);
  if (stopping_) {
    RetireNext("the server was told to stop", /*gentle=*/true);
  } else if (next_.reaped || !next_.why.empty()) {
    const std::string why = next_.why;
    reason_ = absl::StrCat("generation ", next_.generation, " failed: ", why);
    if (!next_.last_good) ++newest_failures_;
    RetireNext(why);
    ScheduleSpawn();
  } else if (next_.phase == Phase::kReady) {
    AwaitMapped();
  } else {
    load_deadline_ns_ = After(policy_.load_timeout);
  }
}

void ReloadMachine::KeepOld(const std::string& why, bool retry) {
  reason_ = why;
  DropNext();
  if (step_ != State::kStaging) {
    Emit(Action::kServe, old_.generation);
    Emit(Action::kTellKept, old_.generation);
  }
  MoveTo(State::kServing);
  const bool again = std::exchange(again_, false) && !stopping_;
  FinishKeptOld(why, retry && !again);
  if (again) OnReloadRequested(again_trigger_);
}

void ReloadMachine::FinishKeptOld(const std::string& why, bool retry) {
  reason_ = why;
  if (failures_ > 0) healthy_at_ns_ = After(backoff_.healthy_after);
  // Whoever sent a command is told, and decides for himself.
  if (retry && trigger_ != "command") {
    // A drain that comes to nothing holds every request: serve for at least as long before the
    // next one.
    const auto doublings = static_cast<int>(std::min<uint64_t>(kept_in_a_row_++, 4));
    const absl::Duration delay =
        std::max(backoff_.first, policy_.drain_timeout) * (int64_t{1} << doublings);
    retry_at_ns_ = After(delay);
    absl::StrAppend(&reason_, "; trying again in ", absl::FormatDuration(delay));
  }
  Emit(Action::kFinish, old_.generation);
  actions_.back().outcome = "kept-old";
  actions_.back().detail = reason_;
}

void ReloadMachine::RetryReload() {
  if (stopping_ || step_ != State::kServing) return;
  const std::string trigger = trigger_;
  BeginReload(trigger);
  Spawn();
  MoveTo(State::kStaging);
}

void ReloadMachine::StopServing() {
  BeginReload("stop");
  EnterHolding();
}

void ReloadMachine::Stopped() {
  // Before the first generation served there are no receipts.
  if (served_ != 0 && old_.phase != Phase::kNone) TellFailedGeneration();
  MoveTo(State::kStopped);
  Emit(Action::kFinish, served_);
  actions_.back().outcome = "stopped";
  actions_.back().detail = reason_;
  Emit(Action::kStopped, served_);
  actions_.back().detail = stop_reason_;
}

void ReloadMachine::Emit(Action kind, uint64_t generation) {
  ReloadAction action;
  action.kind = kind;
  action.generation = generation;
  actions_.push_back(std::move(action));
}

int64_t ReloadMachine::After(absl::Duration delay) const {
  const int64_t ns = absl::ToInt64Nanoseconds(delay);
  if (ns > std::numeric_limits<int64_t>::max() - now_ns_) return 0;  // never
  return now_ns_ + std::max<int64_t>(ns, 0);
}

}  // namespace baton::runtime

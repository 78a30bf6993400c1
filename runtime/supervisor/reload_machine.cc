#include "runtime/supervisor/reload_machine.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::runtime {

using State = ipc::ServerState;

namespace {

// How often the newest secrets may fail to come up before the last good ones are used.
constexpr int kNewestSecretsTries = 2;

int64_t SoonerOf(int64_t a, int64_t b) {
  if (a == 0 || b == 0) return a + b;
  return std::min(a, b);
}

}  // namespace

ReloadMachine::ReloadMachine(loader::ReloadPolicy policy, BackoffPolicy backoff)
    : policy_(policy), backoff_(backoff) {}

State ReloadMachine::state() const {
  return stopping_ && step_ != State::kStopped ? State::kStopping : step_;
}

int64_t ReloadMachine::deadline_ns() const {
  return SoonerOf(SoonerOf(step_deadline_ns_, load_deadline_ns_),
                  SoonerOf(spawn_at_ns_, healthy_at_ns_));
}

std::vector<ReloadAction> ReloadMachine::Start(int64_t now_ns) {
  now_ns_ = now_ns;
  Spawn();
  return std::exchange(actions_, {});
}

std::vector<ReloadAction> ReloadMachine::Handle(const ReloadEvent& event, int64_t now_ns) {
  now_ns_ = now_ns;
  if (step_ == State::kStopped) return {};
  const bool from_old = old_.phase != Phase::kNone && event.generation == old_.generation;
  const bool from_next = next_.phase != Phase::kNone && event.generation == next_.generation;
  using Kind = ReloadEvent::Kind;
  switch (event.kind) {
    case Kind::kReloadRequested:
      OnReloadRequested(event.detail);
      break;
    case Kind::kWorkerStaged:
      if (from_next && next_.phase == Phase::kStaging) OnStaged();
      break;
    case Kind::kWorkerReady:
      if (from_next && next_.phase == Phase::kAdmitted) OnReady();
      break;
    case Kind::kWorkerFailed:
      if (from_old) {
        if (old_.why.empty()) old_.why = event.detail;
        Emit(Action::kKill, old_.generation);
      }
      if (from_next) OnNextLost(event.detail);
      break;
    case Kind::kWorkerExited:
      if (from_old && !old_.reaped) OnOldLost(event.detail);
      if (from_next) {
        next_.reaped = true;
        OnNextLost(event.detail);
      }
      break;
    case Kind::kHeld:
      if (from_old && step_ == State::kDraining) EnterClosing();
      break;
    case Kind::kImportsClosed:
      if (from_old && step_ == State::kClosing) EnterExiting();
      break;
    case Kind::kImportsMapped:
      if (from_next && step_ == State::kRemapping) EnterServing();
      break;
    case Kind::kConfirmed:
      if (from_old && step_ == State::kConfirming) OnConfirmed();
      break;
    case Kind::kNotConfirmed:
      if (from_old && step_ == State::kConfirming) verdict_ = event.detail;
      break;
    case Kind::kTimeout:
      OnTimeout();
      break;
    case Kind::kStop:
      OnStop();
      break;
  }
  return std::exchange(actions_, {});
}

void ReloadMachine::OnReloadRequested(const std::string& trigger) {
  if (stopping_) return;
  newest_failures_ = 0;
  if (step_ == State::kServing) {
    BeginReload(trigger);
    Spawn();
    MoveTo(State::kStaging);
    return;
  }
  if (next_.phase == Phase::kNone) {  // being retried: the next try is the one asked for
    Emit(Action::kJoin);
    Spawn();
    TellUnconfirmed();
    return;
  }
  // The worker on its way has read its configuration and its secrets already (A15).
  again_ = true;
  again_trigger_ = trigger;
  TellUnconfirmed();
}

// Nobody knows when it ends: who asks is told, rather than left waiting.
void ReloadMachine::TellUnconfirmed() {
  if (step_ == State::kConfirming && unconfirmed_) Emit(Action::kUnconfirmed, old_.generation);
}

void ReloadMachine::OnStop() {
  if (stopping_) return;
  stopping_ = true;
  again_ = false;
  spawn_at_ns_ = healthy_at_ns_ = 0;
  switch (step_) {
    case State::kServing:
      BeginReload("stop");
      EnterHolding();
      break;
    case State::kStaging:
      KeepOld("the server was told to stop");
      BeginReload("stop");
      EnterHolding();
      break;
    case State::kStarting:
    case State::kAdmitting:
    case State::kRemapping:
      RetireNext("the server was told to stop");
      break;
    case State::kUnavailable:
      if (next_.phase != Phase::kNone) {
        RetireNext("the server was told to stop");
      } else {
        Stopped();
      }
      break;
    case State::kConfirming:
      DropNext();
      if (step_deadline_ns_ == 0) Stopped();  // it has been waited for long enough
      break;
    default:
      DropNext();
      break;
  }
}

void ReloadMachine::OnStaged() {
  next_.phase = Phase::kStaged;
  load_deadline_ns_ = 0;
  switch (step_) {
    case State::kStarting:
    case State::kAdmitting:
      Admit();
      break;
    case State::kStaging:
      EnterHolding();
      break;
    case State::kUnavailable:
      MoveTo(State::kAdmitting);
      Admit();
      break;
    default:  // its turn comes when the memory of the one before is confirmed gone
      break;
  }
}

void ReloadMachine::OnReady() {
  next_.phase = Phase::kReady;
  load_deadline_ns_ = 0;
  if (step_ == State::kStarting) {
    EnterServing();
    return;
  }
  MoveTo(State::kRemapping);
  step_deadline_ns_ = After(policy_.close_timeout);
  Emit(Action::kMapImports, next_.generation);
}

void ReloadMachine::OnConfirmed() {
  if (stopping_) {
    Stopped();
    return;
  }
  TellFailedGeneration();
  old_ = {};
  verdict_.clear();
  if (next_.phase == Phase::kNone) {
    MoveTo(State::kUnavailable);
    return;
  }
  MoveTo(State::kAdmitting);
  if (next_.phase == Phase::kStaged) Admit();
}

void ReloadMachine::OnTimeout() {
  const auto passed = [this](int64_t& deadline) {
    if (deadline == 0 || now_ns_ < deadline) return false;
    deadline = 0;
    return true;
  };
  if (passed(healthy_at_ns_)) failures_ = 0;
  if (passed(spawn_at_ns_)) SpawnWhenDue();
  if (passed(load_deadline_ns_)) {
    OnNextLost(absl::StrCat("it was not ", next_.phase == Phase::kStaging ? "staged" : "ready",
                            " within load_timeout (", absl::FormatDuration(policy_.load_timeout),
                            "); raise reload.load_timeout if it needs longer"));
  }
  if (passed(step_deadline_ns_)) OnStepTimeout();
}

void ReloadMachine::OnStepTimeout() {
  switch (step_) {
    case State::kDraining:
      if (stopping_) {
        EnterClosing();
        break;
      }
      KeepOld(absl::StrCat("requests of generation ", old_.generation,
                           " did not end within drain_timeout (",
                           absl::FormatDuration(policy_.drain_timeout), ")"));
      break;
    case State::kClosing:
      Emit(Action::kCutOffClosers, old_.generation);
      EnterExiting();
      break;
    case State::kExiting:
      if (kill_sent_) {
        reason_ = absl::StrCat("generation ", old_.generation,
                               " does not die after SIGKILL: its device may be wedged. Nothing "
                               "can go on before it does; the machine may need a restart");
        break;
      }
      kill_sent_ = true;
      Emit(Action::kKill, old_.generation);
      step_deadline_ns_ = After(policy_.cleanup_timeout);
      break;
    case State::kConfirming:
      reason_ =
          absl::StrCat("device memory of generation ", old_.generation, " is not confirmed freed (",
                       verdict_, "); nothing may allocate before it is");
      unconfirmed_ = true;
      TellUnconfirmed();
      if (stopping_) Stopped();
      break;
    case State::kRemapping:
      Emit(Action::kCutOffMappers, next_.generation);
      EnterServing();
      break;
    default:
      break;
  }
}

void ReloadMachine::OnOldLost(const std::string& why) {
  old_.reaped = true;
  const std::string cause = old_.why.empty() ? why : absl::StrCat(old_.why, "; ", why);
  switch (step_) {
    case State::kServing:
      reason_ = absl::StrCat("generation ", old_.generation, " died: ", cause);
      BeginReload("worker-death");
      ScheduleSpawn();
      EnterClosing();
      break;
    case State::kStaging:
    case State::kDraining:
      reason_ = absl::StrCat("generation ", old_.generation, " died: ", cause);
      if (!stopping_) ++failures_;
      EnterClosing();
      break;
    case State::kExiting:
      EnterConfirming();
      break;
    default:
      break;
  }
}

void ReloadMachine::OnNextLost(const std::string& why) {
  const std::string what = absl::StrCat("generation ", next_.generation, " failed: ", why);
  if (!next_.last_good_secrets) ++newest_failures_;
  switch (step_) {
    case State::kStarting:
      stop_reason_ = why;
      stopping_ = true;
      RetireNext(why);
      break;
    case State::kStaging:
    case State::kDraining:
      if (stopping_) {
        DropNext();
      } else {
        KeepOld(what);
      }
      break;
    case State::kClosing:
    case State::kExiting:
    case State::kConfirming:
      reason_ = what;
      DropNext();
      ScheduleSpawn();
      break;
    case State::kAdmitting:
    case State::kRemapping:
    case State::kUnavailable:
      reason_ = what;
      if (next_.phase == Phase::kAdmitted || next_.phase == Phase::kReady) {
        RetireNext(why);
        ScheduleSpawn();
        break;
      }
      DropNext();
      if (step_ != State::kUnavailable) {
        MoveTo(State::kUnavailable);
      } else {
        Emit(Action::kStillUnavailable);
      }
      ScheduleSpawn();
      break;
    default:
      break;
  }
}

// ---- moves ----

void ReloadMachine::MoveTo(State to) {
  if (!Allowed(step_, to)) std::abort();  // a bug of this file, met by the tests
  step_ = to;
  step_deadline_ns_ = 0;
  Emit(Action::kEnter, served_);
  actions_.back().step = to;
}

void ReloadMachine::BeginReload(const std::string& trigger) {
  healthy_at_ns_ = 0;
  Emit(Action::kBegin, old_.generation);
  actions_.back().detail = trigger;
}

void ReloadMachine::Spawn() {
  spawn_at_ns_ = 0;
  next_ = {};
  next_.generation = ++last_generation_;
  next_.phase = Phase::kStaging;
  next_.last_good_secrets = served_ != 0 && newest_failures_ >= kNewestSecretsTries;
  load_deadline_ns_ = After(policy_.load_timeout);
  Emit(Action::kSpawn, next_.generation);
  actions_.back().last_good_secrets = next_.last_good_secrets;
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
  if (old_.generation == served_) return;
  Emit(Action::kFailedGeneration, old_.generation);
  actions_.back().detail = old_.why;
}

// The successor goes the way of an old worker: it may hold device memory.
void ReloadMachine::RetireNext(const std::string& why) {
  old_ = std::exchange(next_, {});
  old_.why = why;
  load_deadline_ns_ = 0;
  if (old_.phase != Phase::kReady) Emit(Action::kKill, old_.generation);
  EnterClosing();
}

void ReloadMachine::Admit() {
  next_.phase = Phase::kAdmitted;
  load_deadline_ns_ = After(policy_.load_timeout);
  Emit(Action::kAdmit, next_.generation);
}

void ReloadMachine::EnterHolding() {
  MoveTo(State::kHolding);
  Emit(Action::kHold, old_.generation);
  MoveTo(State::kDraining);
  step_deadline_ns_ = After(policy_.drain_timeout);
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
  Emit(can_clean_up && old_.why.empty() ? Action::kExit : Action::kKill, old_.generation);
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
  old_.phase = Phase::kServing;
  served_ = old_.generation;
  reason_.clear();
  if (old_.last_good_secrets) {
    reason_ = "the newest secrets did not come up twice: it serves with the last good ones";
  } else {
    newest_failures_ = 0;
  }
  if (failures_ > 0) healthy_at_ns_ = After(backoff_.healthy_after);
  Emit(Action::kServe, served_);
  MoveTo(State::kServing);
  if (!first) {
    Emit(Action::kFinish, served_);
    actions_.back().outcome = "swapped";
    actions_.back().detail = reason_;
  }
  if (std::exchange(again_, false)) OnReloadRequested(again_trigger_);
}

void ReloadMachine::KeepOld(const std::string& why) {
  reason_ = why;
  DropNext();
  if (step_ != State::kStaging) Emit(Action::kServe, old_.generation);
  MoveTo(State::kServing);
  if (failures_ > 0) healthy_at_ns_ = After(backoff_.healthy_after);
  Emit(Action::kFinish, old_.generation);
  actions_.back().outcome = "kept-old";
  actions_.back().detail = why;
  if (std::exchange(again_, false)) OnReloadRequested(again_trigger_);
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

// ReloadMachine: what events mean in each step. The moves are in reload_moves.cc.
#include "runtime/supervisor/reload_machine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::runtime {

using State = ipc::ServerState;

namespace {

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
  return SoonerOf(SoonerOf(SoonerOf(step_deadline_ns_, load_deadline_ns_),
                           SoonerOf(spawn_at_ns_, healthy_at_ns_)),
                  retry_at_ns_);
}

void ReloadMachine::PutOff(int64_t ns) {
  for (int64_t* deadline : {&step_deadline_ns_, &load_deadline_ns_}) {
    if (*deadline != 0) *deadline += std::min(ns, std::numeric_limits<int64_t>::max() - *deadline);
  }
}

bool ReloadMachine::serves() const {
  if (beside_.phase == Phase::kServing && !beside_.reaped) return true;
  if (old_.phase != Phase::kServing || old_.reaped) return false;
  return step_ == State::kServing || step_ == State::kStaging ||
         (overlap_ && (step_ == State::kAdmitting || step_ == State::kRemapping));
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
  const bool from_beside = beside_.phase != Phase::kNone && event.generation == beside_.generation;
  using Kind = ReloadEvent::Kind;
  switch (event.kind) {
    case Kind::kReloadRequested:
      OnReloadRequested(event.detail);
      break;
    case Kind::kWorkerStaged:
      if (from_next && next_.phase == Phase::kStaging) OnStaged(event.overlap);
      break;
    case Kind::kWorkerReady:
      if (from_next && next_.phase == Phase::kAdmitted) OnReady();
      if (from_beside && beside_.phase == Phase::kAdmitted) beside_.phase = Phase::kReady;
      break;
    case Kind::kWorkerFailed:
      if (from_old || from_beside) {
        Worker& worker = from_old ? old_ : beside_;
        if (worker.why.empty()) worker.why = event.detail;
        // Until it is reaped; what cannot be killed is seen here.
        if (worker.phase == Phase::kServing) {
          reason_ =
              absl::StrCat("generation ", worker.generation, " is being replaced: ", event.detail);
        }
        Emit(Action::kKill, worker.generation);
      }
      if (from_next) OnNextLost(event.detail);
      break;
    case Kind::kWorkerExited:
      if (from_old && !old_.reaped) OnOldLost(event.detail);
      if (from_next) {
        next_.reaped = true;
        OnNextLost(event.detail);
      }
      if (from_beside) OnBesideLost(event.detail);
      break;
    case Kind::kHeld:
      if (from_old && step_ == State::kDraining) {
        held_ = true;
        OnDrained();
      }
      break;
    case Kind::kLeasesHeld:
      if (from_old && step_ == State::kDraining) {
        holders_ = event.detail;
        // They are asked again once nothing runs: that may have left results on the device.
        returned_ = overlap_ || stopping_;
      }
      break;
    case Kind::kLeasesReturned:
      if (from_old && step_ == State::kDraining) {
        returned_ = true;
        OnDrained();
      }
      break;
    case Kind::kImportsClosed:
      if (from_old && step_ == State::kClosing) EnterExiting();
      break;
    case Kind::kImportsMapped:
      if (from_next && step_ == State::kRemapping) OnMapped();
      break;
    case Kind::kConfirmed:
      if (from_old && step_ == State::kConfirming) LeaveConfirming();
      break;
    case Kind::kNotConfirmed:
      if (from_old && step_ == State::kConfirming) {
        verdict_ = event.detail;
        if (unconfirmed_) SayUnconfirmed();  // who pins it may be known by now
      }
      break;
    case Kind::kOverride:
      OnOverride();
      break;
    case Kind::kNotNeeded:
      if (!only_secrets_) break;
      if (retry_at_ns_ != 0) reason_.clear();
      retry_at_ns_ = 0;
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
  kept_in_a_row_ = 0;
  if (step_ == State::kServing) {
    BeginReload(trigger);
    Spawn();
    MoveTo(State::kStaging);
    return;
  }
  if (next_.phase == Phase::kNone && beside_.phase == Phase::kNone) {
    // Being retried: the next try is the one asked for.
    Emit(Action::kJoin);
    Spawn();
    TellStuck();
    return;
  }
  // The worker on its way has read its configuration and its secrets already (A15).
  if (!again_ || trigger != "secrets") again_trigger_ = trigger;
  again_ = true;
  TellStuck();
}

// Nobody knows when it ends: who asks is told, rather than left waiting.
void ReloadMachine::TellStuck() {
  if (step_ == State::kConfirming && unconfirmed_) Emit(Action::kUnconfirmed, old_.generation);
  if (step_ == State::kExiting && kill_sent_ && step_deadline_ns_ == 0) {
    Emit(Action::kStillUnavailable, old_.generation);
  }
}

void ReloadMachine::SayUnconfirmed() {
  reason_ =
      absl::StrCat("device memory of generation ", old_.generation, " is not confirmed freed (",
                   verdict_, "); nothing may allocate before it is");
}

void ReloadMachine::OnOverride() {
  if (stopping_ || step_ == State::kServing) return;  // there is nothing to override
  // It was asked for with a reload that has to wait for this one.
  if (again_ && step_ != State::kConfirming) {
    again_override_ = true;
    return;
  }
  override_ = true;
  if (step_ == State::kConfirming && unconfirmed_) Override();
}

void ReloadMachine::OnStop() {
  if (stopping_) return;
  stopping_ = true;
  again_ = again_override_ = false;
  spawn_at_ns_ = healthy_at_ns_ = retry_at_ns_ = 0;
  const std::string why = "the server was told to stop";
  switch (step_) {
    case State::kServing:
      StopServing();
      break;
    case State::kStaging:
      KeepOld(why);
      StopServing();
      break;
    case State::kDraining:
      if (overlap_) {
        RetireNextBesideOld(why, /*gentle=*/true);
      } else {
        DropNext();
        returned_ = true;  // CLOSING waits for leases, too
        OnDrained();
      }
      break;
    case State::kStarting:
    case State::kAdmitting:
    case State::kRemapping:
      if (overlap_) {
        RetireNextBesideOld(why, /*gentle=*/true);
      } else {
        RetireNext(why, /*gentle=*/true);
      }
      break;
    case State::kUnavailable:
      if (next_.phase != Phase::kNone) {
        RetireNext(why);
      } else {
        Stopped();
      }
      break;
    case State::kConfirming:
      DropNext();
      if (step_deadline_ns_ == 0) LeaveConfirming();  // it has been waited for long enough
      break;
    default:
      DropNext();
      break;
  }
}

void ReloadMachine::OnStaged(bool overlap) {
  next_.phase = Phase::kStaged;
  load_deadline_ns_ = 0;
  switch (step_) {
    case State::kStarting:
    case State::kAdmitting:
      Admit();
      break;
    case State::kStaging:
      if (!overlap) {
        EnterHolding();
        break;
      }
      overlap_ = true;
      MoveTo(State::kAdmitting);
      Admit();
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
  } else {
    AwaitMapped();
  }
}

void ReloadMachine::OnMapped() {
  if (overlap_) {
    EnterHolding();
  } else {
    EnterServing();
  }
}

void ReloadMachine::OnDrained() {
  if (!held_ || !returned_) return;
  if (overlap_) {
    Promote();
  } else {
    EnterClosing();
  }
}

void ReloadMachine::OnTimeout() {
  const auto passed = [this](int64_t& deadline) {
    if (deadline == 0 || now_ns_ < deadline) return false;
    deadline = 0;
    return true;
  };
  if (passed(healthy_at_ns_)) failures_ = 0;
  if (passed(retry_at_ns_)) RetryReload();
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
    case State::kDraining: {
      if (stopping_) {
        EnterClosing();
        break;
      }
      std::string why =
          absl::StrCat("generation ", old_.generation, " was not drained within ",
                       "drain_timeout (", absl::FormatDuration(policy_.drain_timeout), "): ");
      if (!held_) absl::StrAppend(&why, "requests have not ended");
      if (!held_ && !returned_) absl::StrAppend(&why, "; ");
      if (!returned_) absl::StrAppend(&why, holders_.empty() ? "leases were not asked" : holders_);
      if (overlap_) {
        kept_retry_ = true;
        RetireNextBesideOld(why, /*gentle=*/true);
      } else {
        KeepOld(why, /*retry=*/true);
      }
      break;
    }
    case State::kClosing:
      Emit(Action::kCutOffClosers, old_.generation);
      EnterExiting();
      break;
    case State::kExiting:
      if (kill_sent_) {
        reason_ = absl::StrCat("generation ", old_.generation,
                               " does not die after SIGKILL: its device may be wedged. Nothing "
                               "can go on before it does; the machine may need a restart");
        TellStuck();
        break;
      }
      kill_sent_ = true;
      Emit(Action::kKill, old_.generation);
      step_deadline_ns_ = After(policy_.cleanup_timeout);
      break;
    case State::kConfirming:
      unconfirmed_ = true;
      SayUnconfirmed();
      if (!stopping_ && (override_ || policy_.on_unconfirmed == loader::OnUnconfirmed::kOverride)) {
        Override();
        break;
      }
      TellStuck();
      if (stopping_) LeaveConfirming();
      break;
    case State::kRemapping:
      Emit(Action::kCutOffMappers, next_.generation);
      OnMapped();
      break;
    default:
      break;
  }
}

void ReloadMachine::OnOldLost(const std::string& why) {
  old_.reaped = true;
  const std::string cause = old_.why.empty() ? why : absl::StrCat(old_.why, "; ", why);
  const std::string died = absl::StrCat("generation ", old_.generation, " died: ", cause);
  switch (step_) {
    case State::kServing:
      reason_ = died;
      BeginReload("worker-death");
      ScheduleSpawn();
      EnterClosing();
      break;
    case State::kStaging:
    case State::kDraining:
      reason_ = died;
      if (!stopping_) ++failures_;
      if (overlap_) {
        Promote();  // its successor is up already
      } else {
        EnterClosing();
      }
      break;
    case State::kAdmitting:
    case State::kRemapping:
      if (!overlap_) break;
      // Its successor goes on coming up meanwhile, and has its turn after it.
      reason_ = died;
      ++failures_;
      overlap_ = false;
      load_deadline_ns_ = 0;
      beside_ = std::exchange(next_, {});
      EnterClosing();
      break;
    case State::kExiting:
      EnterConfirming();
      break;
    default:
      break;
  }
}

void ReloadMachine::OnBesideLost(const std::string& why) {
  if (beside_.reaped) return;
  beside_.reaped = true;
  if (beside_.why.empty()) {
    beside_.why = why;
  } else {
    absl::StrAppend(&beside_.why, "; ", why);
  }
  // What becomes of it is seen to when the one on its way out is gone.
  reason_ = absl::StrCat("generation ", beside_.generation, " died: ", beside_.why);
}

void ReloadMachine::OnNextLost(const std::string& why) {
  const std::string what = absl::StrCat("generation ", next_.generation, " failed: ", why);
  if (!next_.last_good) ++newest_failures_;
  switch (step_) {
    case State::kStarting:
      stop_reason_ = why;
      stopping_ = true;
      RetireNext(why);
      break;
    case State::kStaging:
    case State::kDraining:
      if (overlap_) {
        RetireNextBesideOld(what, /*gentle=*/false);
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
      if (overlap_) {
        RetireNextBesideOld(what, /*gentle=*/false);
        break;
      }
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

}  // namespace baton::runtime

#include "tests/crash/fault_matrix.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace baton::testing {

using State = ipc::ServerState;

const std::vector<Target>& AllTargets() {
  static const auto& targets = *new std::vector<Target>{
      Target::kFront,     Target::kSecondFront, Target::kSupervisor,
      Target::kOldWorker, Target::kNewWorker,   Target::kHelper,
  };
  return targets;
}

const std::vector<Fault>& AllFaults() {
  static const auto& faults = *new std::vector<Fault>{Fault::kKill, Fault::kHang, Fault::kFail};
  return faults;
}

const std::vector<State>& AllStates() {
  static const auto& states = *new std::vector<State>{
      State::kServing,   State::kStaging,     State::kHolding,    State::kDraining,
      State::kClosing,   State::kExiting,     State::kConfirming, State::kAdmitting,
      State::kRemapping, State::kUnavailable,
  };
  return states;
}

std::vector<Cell> AllCells() {
  std::vector<Cell> cells;
  for (const Target target : AllTargets()) {
    for (const Fault fault : AllFaults()) {
      for (const State state : AllStates()) cells.push_back({target, fault, state});
    }
  }
  return cells;
}

std::string TargetName(Target target) {
  switch (target) {
    case Target::kFront:
      return "front";
    case Target::kSecondFront:
      return "second front";
    case Target::kSupervisor:
      return "supervisor";
    case Target::kOldWorker:
      return "old worker";
    case Target::kNewWorker:
      return "new worker";
    case Target::kHelper:
      return "confirmation helper";
  }
  return "";
}

std::string FaultName(Fault fault) {
  switch (fault) {
    case Fault::kKill:
      return "SIGKILL";
    case Fault::kHang:
      return "SIGSTOP";
    case Fault::kFail:
      return "failing step";
  }
  return "";
}

std::string CellName(const Cell& cell) {
  return absl::StrReplaceAll(absl::StrCat(TargetName(cell.target), "_", FaultName(cell.fault),
                                          "_in_", std::string(ipc::ServerStateName(cell.state))),
                             {{" ", "_"}});
}

namespace {

CellPlan Impossible(std::string why) {
  CellPlan plan;
  plan.impossible = std::move(why);
  return plan;
}

// What becomes of a reload, or of a worker's death, that nothing disturbs.
std::string Undisturbed(State state) {
  if (state == State::kServing) return "served";
  return state == State::kUnavailable ? "replaced" : "swapped";
}

// With the course that leads to the state, and nothing else.
CellPlan PlanFor(State state) {
  CellPlan plan;
  plan.outcomes = {Undisturbed(state)};
  if (state == State::kServing) {
    plan.course = Course::kServing;
    plan.stops_at_state = false;
  } else if (state == State::kUnavailable) {
    plan.course = Course::kUnavailable;
    plan.stop_at = "worker.staging@2";
    plan.workers_lost = 1;
  }
  return plan;
}

// The point brings it about: nobody has to be stopped for it.
CellPlan FailAt(State state, const std::vector<std::string>& points, std::string outcome) {
  CellPlan plan = PlanFor(state);
  plan.stops_at_state = false;
  plan.runs.clear();
  for (const std::string& point : points) plan.runs.push_back({point, "", ""});
  plan.outcomes = {std::move(outcome)};
  return plan;
}

CellPlan FrontFails(State state) {
  CellPlan plan = PlanFor(state);
  plan.stops_at_state = false;
  switch (state) {
    case State::kDraining:  // it does not say what it leases
      plan.front_fail_at = "front.leases";
      plan.timeouts = {"drain_timeout"};
      plan.outcomes = {"kept-old"};
      plan.receipt_says = "pid PID has not answered";
      return plan;
    case State::kClosing:  // it closes nothing
      plan.front_fail_at = "front.close_imports";
      plan.timeouts = {"close_timeout"};
      plan.cut_off = true;
      return plan;
    case State::kRemapping:  // it cannot map the new arena, and says so: it is served all the same
      plan.front_fail_at = "front.import:2";
      plan.log_says = "could not map the arena of generation 2: failed at front.import";
      return plan;
    default:
      return Impossible("a front is asked nothing there: it has no step that could fail");
  }
}

CellPlan FrontHangs(State state) {
  CellPlan plan = PlanFor(state);
  switch (state) {
    case State::kServing:
      break;
    case State::kDraining:  // before it has answered, so it stops itself
      plan.front_stop_at = "front.leases";
      plan.stops_by_itself = true;
      [[fallthrough]];
    case State::kStaging:
    case State::kHolding:
      plan.timeouts = {"drain_timeout"};
      plan.outcomes = {"kept-old"};
      plan.receipt_says = "pid PID has not answered";
      break;
    case State::kClosing:
      plan.timeouts = {"close_timeout", "confirm_timeout"};
      plan.cut_off = true;
      plan.pins = true;
      break;
    default:
      plan.timeouts = {"close_timeout"};
      plan.cut_off = true;
  }
  return plan;
}

CellPlan SupervisorPlan(Fault fault, State state) {
  CellPlan plan = PlanFor(state);
  if (fault == Fault::kKill) {
    plan.outcomes = {"restarted"};
    plan.workers_lost = 1 << 20;  // with their server
    return plan;
  }
  if (fault == Fault::kHang) {
    // From CLOSING on the old worker has been told to hold and has done so, or is dead.
    plan.must_expire = state >= State::kClosing && state <= State::kUnavailable;
    return plan;
  }
  switch (state) {
    case State::kServing:  // the end of a reload
      plan = FailAt(state, {"supervisor.write_receipt"}, "swapped unwritten");
      plan.log_says = "a receipt was not written";
      plan.course = Course::kReload;
      return plan;
    case State::kStaging:
      plan = FailAt(state, {"supervisor.read_secrets:2", "supervisor.spawn_worker:2"}, "kept-old");
      plan.receipt_says = "at the point supervisor.";
      return plan;
    case State::kClosing:  // a death, which starts the next worker there
      plan = FailAt(state, {"supervisor.spawn_worker:2"}, "replaced");
      plan.course = Course::kWorkerDeath;
      plan.workers_lost = 1;
      plan.successor = 3;
      return plan;
    case State::kConfirming:  // a helper has to be started, and is not at once
      plan = FailAt(state, {"supervisor.spawn_helper:2"}, "swapped");
      plan.runs.front().crash_at = "confirm.asked@1";
      plan.log_says = "at the point supervisor.spawn_helper";
      return plan;
    case State::kUnavailable:
      plan = FailAt(state, {"supervisor.spawn_worker:3"}, "replaced");
      plan.log_says = "at the point supervisor.spawn_worker";
      return plan;
    default:
      return Impossible(
          "it only sends messages or waits there; what may fail is the other end, another row");
  }
}

CellPlan OldWorkerPlan(Fault fault, State state) {
  CellPlan plan = PlanFor(state);
  if (state == State::kUnavailable) return Impossible("there is none: that is what the state says");
  if (state >= State::kConfirming) {
    return Impossible("it is dead and reaped: CONFIRMING begins with that");
  }
  if (fault == Fault::kFail) {
    switch (state) {
      case State::kDraining:  // it does not say that it holds
        plan = FailAt(state, {"worker.hold@1"}, "kept-old");
        plan.timeouts = {"drain_timeout"};
        plan.receipt_says = "requests have not ended";
        return plan;
      case State::kExiting:
        plan = FailAt(state, {"worker.cleanup@1"}, "swapped");
        plan.log_says = "at the point worker.cleanup";
        return plan;
      case State::kServing:
      case State::kStaging:
        return Impossible(
            "it answers requests, and one that fails is an answer, no step of a reload");
      default:
        return Impossible("it has no step there: it is told to hold, or idle");
    }
  }
  plan.workers_lost = 1;
  if (fault == Fault::kKill) {
    if (state == State::kServing) plan.outcomes = {"replaced"};
    return plan;
  }
  switch (state) {
    case State::kServing:
      plan.outcomes = {"replaced"};
      plan.short_heartbeat = true;
      break;
    case State::kStaging:  // whichever comes first: the heartbeat, or its successor and the drain
      plan.outcomes = {"kept-old+replaced", "swapped"};
      plan.timeouts = {"drain_timeout"};
      plan.short_heartbeat = true;
      break;
    case State::kDraining:  // before it has answered, so it stops itself
      plan.stop_at = "worker.hold@1";
      plan.stops_by_itself = true;
      [[fallthrough]];
    case State::kHolding:
      plan.outcomes = {"kept-old+replaced"};
      plan.timeouts = {"drain_timeout"};
      plan.short_heartbeat = true;
      plan.receipt_says = "requests have not ended";
      break;
    default:  // CLOSING, EXITING
      plan.timeouts = {"cleanup_timeout"};
  }
  return plan;
}

// Of the one that is tried next.
CellPlan NewWorkerInUnavailable(Fault fault) {
  CellPlan plan = PlanFor(State::kUnavailable);
  plan.stops_at_state = false;
  plan.stop_at = "worker.staging@2,worker.staging@3";
  plan.stops_by_itself = fault == Fault::kHang;
  if (fault == Fault::kHang) plan.timeouts = {"load_timeout"};
  if (fault == Fault::kFail) {
    plan.runs = {{"worker.stage@3", "", ""}};
    plan.log_says = "at the point worker.stage";
  }
  return plan;
}

CellPlan NewWorkerPlan(Fault fault, State state) {
  CellPlan plan = PlanFor(state);
  if (state == State::kServing) return Impossible("none is on its way");
  if (state == State::kUnavailable) return NewWorkerInUnavailable(fault);
  if (fault == Fault::kFail) {
    switch (state) {
      case State::kStaging:
        plan = FailAt(state, {"worker.stage@2"}, "kept-old");
        plan.receipt_says = "at the point worker.stage";
        return plan;
      case State::kAdmitting:
        return FailAt(state, {"worker.upload@2", "worker.ready@2"}, "failed+swapped");
      case State::kRemapping:
        return Impossible("it is ready and idle there: fronts map its arena");
      default:
        return Impossible("it is staged and idle there");
    }
  }
  if (fault == Fault::kKill) {
    switch (state) {
      case State::kStaging:
        plan.outcomes = {"kept-old"};
        break;
      case State::kHolding:
      case State::kDraining:  // which the supervisor sees first: its death, or the end of the drain
        plan.outcomes = {"kept-old", "swapped"};
        break;
      case State::kAdmitting:
        plan.outcomes = {"failed+swapped"};
        break;
      case State::kRemapping:  // or that every front has mapped it
        plan.outcomes = {"failed+swapped", "swapped+replaced"};
        break;
      default:
        break;
    }
    return plan;
  }
  if (state == State::kRemapping) {
    plan.outcomes = {"swapped+replaced"};
    plan.short_heartbeat = true;
    return plan;
  }
  plan.outcomes = {state == State::kStaging ? "kept-old" : "failed+swapped"};
  plan.timeouts = {"load_timeout"};
  return plan;
}

CellPlan HelperPlan(Fault fault, State state) {
  CellPlan plan = PlanFor(state);
  if (fault == Fault::kFail) {
    if (state == State::kConfirming) return FailAt(state, {"confirm.look"}, "swapped");
    return Impossible("it is asked nothing there: it has no step that could fail");
  }
  if (fault == Fault::kHang) plan.timeouts = {"helper_timeout"};
  if (state == State::kConfirming) {  // before it is asked, before it looks, before it answers
    for (const char* point : {"confirm.asked@1", "confirm.looked@1"}) {
      FaultPoints points;
      (fault == Fault::kKill ? points.crash_at : points.stop_at) = point;
      plan.runs.push_back(points);
    }
  }
  return plan;
}

}  // namespace

CellPlan PlanOf(const Cell& cell) {
  switch (cell.target) {
    case Target::kFront:
    case Target::kSecondFront:
      if (cell.fault == Fault::kKill) return PlanFor(cell.state);
      return cell.fault == Fault::kHang ? FrontHangs(cell.state) : FrontFails(cell.state);
    case Target::kSupervisor:
      return SupervisorPlan(cell.fault, cell.state);
    case Target::kOldWorker:
      return OldWorkerPlan(cell.fault, cell.state);
    case Target::kNewWorker:
      return NewWorkerPlan(cell.fault, cell.state);
    case Target::kHelper:
      return HelperPlan(cell.fault, cell.state);
  }
  return Impossible("there is no such process");
}

}  // namespace baton::testing

// A reload machine with a life behind it, for tests.
#ifndef BATON_TESTS_RUNTIME_SUPERVISOR_MACHINE_LIFE_H_
#define BATON_TESTS_RUNTIME_SUPERVISOR_MACHINE_LIFE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/supervisor/reload_machine.h"

namespace baton::runtime {
using Event = ReloadEvent::Kind;
using Action = ReloadAction::Kind;
using State = ipc::ServerState;

inline constexpr int64_t kMs = 1'000'000;

// A machine, the time, and all that it ever did.
class Life {
 public:
  explicit Life(loader::ReloadPolicy policy = {}) : machine(policy) { Take(machine.Start(now)); }

  std::vector<ReloadAction> Send(Event kind, uint64_t generation = 0, std::string detail = "why") {
    auto actions = machine.Handle({kind, generation, std::move(detail)}, now);
    Take(actions);
    return actions;
  }
  std::vector<ReloadAction> StageBeside() {
    ReloadEvent staged{Event::kWorkerStaged, machine.next_generation(), "", true};
    auto actions = machine.Handle(staged, now);
    Take(actions);
    return actions;
  }
  std::vector<ReloadAction> Beside(Event kind) { return Send(kind, machine.beside_generation()); }
  std::vector<ReloadAction> Old(Event kind) { return Send(kind, machine.old_generation()); }
  std::vector<ReloadAction> Next(Event kind) { return Send(kind, machine.next_generation()); }
  // Lets the next deadline pass.
  std::vector<ReloadAction> Timeout() {
    if (machine.deadline_ns() != 0) now = std::max(now, machine.deadline_ns());
    return Send(Event::kTimeout);
  }

  void Serve() {
    Next(Event::kWorkerStaged);
    Next(Event::kWorkerReady);
  }
  void Stage() { Send(Event::kReloadRequested, 0, "secrets"); }
  void Drain() {
    Stage();
    Next(Event::kWorkerStaged);
    Old(Event::kLeasesReturned);  // nobody holds any
  }
  void Close() {
    Drain();
    Old(Event::kHeld);
  }
  void Exit() {
    Close();
    Old(Event::kImportsClosed);
  }
  void Confirm() {
    Exit();
    Old(Event::kWorkerExited);
  }
  void Admit() {
    Confirm();
    Old(Event::kConfirmed);
  }
  void Remap() {
    Admit();
    Next(Event::kWorkerReady);
  }
  // The same with `overlap`.
  void AdmitBeside() {
    Stage();
    StageBeside();
  }
  void RemapBeside() {
    AdmitBeside();
    Next(Event::kWorkerReady);
  }
  void DrainBeside() {
    RemapBeside();
    Next(Event::kImportsMapped);
  }
  void CloseBeside() {
    DrainBeside();
    Old(Event::kHeld);
  }
  void BecomeUnavailable() {  // crash, and the successor fails twice before it is staged
    Old(Event::kWorkerExited);
    Next(Event::kWorkerFailed);
    Old(Event::kImportsClosed);
    Old(Event::kConfirmed);
  }

  std::vector<Action> Kinds(Action kind) const {
    std::vector<Action> found;
    for (const auto& action : log) {
      if (action.kind == kind) found.push_back(action.kind);
    }
    return found;
  }
  const ReloadAction* Last(Action kind) const {
    for (auto it = log.rbegin(); it != log.rend(); ++it) {
      if (it->kind == kind) return &*it;
    }
    return nullptr;
  }

  ReloadMachine machine;
  int64_t now = 1'000 * kMs;
  std::vector<ReloadAction> log;

 private:
  void Take(const std::vector<ReloadAction>& actions) {
    log.insert(log.end(), actions.begin(), actions.end());
  }
};

inline std::vector<Action> KindsOf(const std::vector<ReloadAction>& actions) {
  std::vector<Action> kinds;
  for (const auto& action : actions) kinds.push_back(action.kind);
  return kinds;
}

inline bool Has(const std::vector<ReloadAction>& actions, Action kind) {
  const auto kinds = KindsOf(actions);
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

// Drives a fresh machine into `state`.
inline Life At(State state) {
  Life life;
  if (state == State::kStarting) return life;
  life.Serve();
  switch (state) {
    case State::kStaging:
      life.Stage();
      break;
    case State::kDraining:
      life.Drain();
      break;
    case State::kClosing:
      life.Close();
      break;
    case State::kExiting:
      life.Exit();
      break;
    case State::kConfirming:
      life.Confirm();
      break;
    case State::kAdmitting:
      life.Admit();
      break;
    case State::kRemapping:
      life.Remap();
      break;
    case State::kUnavailable:
      life.BecomeUnavailable();
      break;
    case State::kStopped:
      life.Send(Event::kStop);
      life.Old(Event::kHeld);
      life.Old(Event::kImportsClosed);
      life.Old(Event::kWorkerExited);
      life.Old(Event::kConfirmed);
      break;
    default:
      break;
  }
  return life;
}

// HOLDING is passed through within one event, STOPPING is only shown.
inline const std::vector<State> kRestingStates = {
    State::kStarting,  State::kServing,     State::kStaging,    State::kDraining,
    State::kClosing,   State::kExiting,     State::kConfirming, State::kAdmitting,
    State::kRemapping, State::kUnavailable, State::kStopped};

}  // namespace baton::runtime

#endif  // BATON_TESTS_RUNTIME_SUPERVISOR_MACHINE_LIFE_H_

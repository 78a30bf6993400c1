// Each event in each state, and random walks.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "runtime/supervisor/reload_transitions.h"
#include "tests/runtime/supervisor/machine_life.h"

namespace baton::runtime {
namespace {

struct Cell {
  Event event;
  bool from_next;  // about the worker on its way; else about the old one
  auto operator<=>(const Cell&) const = default;
};

// Where each event leads from each state. What is not listed changes nothing.
std::map<State, std::map<Cell, State>> Table() {
  using S = State;
  const bool kOld = false, kNext = true;
  std::map<State, std::map<Cell, State>> t;
  t[S::kStarting] = {{{Event::kWorkerFailed, kNext}, S::kClosing},
                     {{Event::kWorkerExited, kNext}, S::kClosing},
                     {{Event::kTimeout, kOld}, S::kClosing},
                     {{Event::kStop, kOld}, S::kClosing}};
  t[S::kServing] = {{{Event::kReloadRequested, kOld}, S::kStaging},
                    {{Event::kWorkerExited, kOld}, S::kClosing},
                    {{Event::kStop, kOld}, S::kDraining}};
  t[S::kStaging] = {
      {{Event::kWorkerStaged, kNext}, S::kDraining}, {{Event::kWorkerFailed, kNext}, S::kServing},
      {{Event::kWorkerExited, kNext}, S::kServing},  {{Event::kWorkerExited, kOld}, S::kClosing},
      {{Event::kTimeout, kOld}, S::kServing},        {{Event::kStop, kOld}, S::kDraining}};
  t[S::kDraining] = {{{Event::kHeld, kOld}, S::kClosing},
                     {{Event::kWorkerExited, kOld}, S::kClosing},
                     {{Event::kWorkerFailed, kNext}, S::kServing},
                     {{Event::kWorkerExited, kNext}, S::kServing},
                     {{Event::kTimeout, kOld}, S::kServing}};
  t[S::kClosing] = {{{Event::kImportsClosed, kOld}, S::kExiting},
                    {{Event::kTimeout, kOld}, S::kExiting}};
  t[S::kExiting] = {{{Event::kWorkerExited, kOld}, S::kConfirming}};
  t[S::kConfirming] = {{{Event::kConfirmed, kOld}, S::kAdmitting}};
  t[S::kAdmitting] = {{{Event::kWorkerReady, kNext}, S::kRemapping},
                      {{Event::kWorkerFailed, kNext}, S::kClosing},
                      {{Event::kWorkerExited, kNext}, S::kClosing},
                      {{Event::kTimeout, kOld}, S::kClosing},
                      {{Event::kStop, kOld}, S::kClosing}};
  t[S::kRemapping] = {{{Event::kImportsMapped, kNext}, S::kServing},
                      {{Event::kTimeout, kOld}, S::kServing},
                      {{Event::kWorkerFailed, kNext}, S::kClosing},
                      {{Event::kWorkerExited, kNext}, S::kClosing},
                      {{Event::kStop, kOld}, S::kClosing}};
  t[S::kUnavailable] = {{{Event::kStop, kOld}, S::kStopped}};
  return t;
}

bool AboutWorker(Event event) {
  return event != Event::kReloadRequested && event != Event::kTimeout && event != Event::kStop &&
         event != Event::kOverride && event != Event::kNotNeeded;
}

TEST(ReloadMachine, EveryEventInEveryStateGoesWhereTheTableSays) {
  const auto table = Table();
  for (const State state : kRestingStates) {
    for (int kind = 0; kind < kReloadEventKinds; ++kind) {
      const auto event = static_cast<Event>(kind);
      for (const bool from_next : {false, true}) {
        if (from_next && !AboutWorker(event)) continue;
        Life life = At(state);
        ASSERT_EQ(life.machine.step(), state);
        if (event == Event::kTimeout) {
          life.Timeout();
        } else if (from_next) {
          life.Next(event);
        } else {
          life.Old(event);
        }
        State expected = state;
        if (const auto row = table.find(state); row != table.end()) {
          if (const auto cell = row->second.find({event, from_next}); cell != row->second.end()) {
            expected = cell->second;
          }
        }
        EXPECT_EQ(life.machine.step(), expected)
            << ipc::ServerStateName(state) << " + event " << kind
            << (from_next ? " from the next worker" : " from the old worker");
      }
    }
  }
}

TEST(ReloadMachine, EventsAboutOtherGenerationsDoNothing) {
  for (const State state : kRestingStates) {
    for (int kind = 0; kind < kReloadEventKinds; ++kind) {
      const auto event = static_cast<Event>(kind);
      if (!AboutWorker(event)) continue;
      Life life = At(state);
      EXPECT_TRUE(life.Send(event, 999).empty());
      EXPECT_EQ(life.machine.step(), state);
    }
  }
}

TEST(ReloadMachine, ATimeoutThatCameTooEarlyDoesNothing) {
  for (const State state : kRestingStates) {
    Life life = At(state);
    EXPECT_TRUE(life.Send(Event::kTimeout).empty()) << ipc::ServerStateName(state);
    EXPECT_EQ(life.machine.step(), state);
  }
}

// Holds what must be true whatever happens, by following the actions.
class Oracle {
 public:
  std::set<std::pair<State, State>> moves;  // that were made
  bool override_asked = false;

  void Follow(const std::vector<ReloadAction>& actions, const ReloadEvent* event) {
    if (event != nullptr) Learn(*event);
    for (const auto& action : actions) Check(action);
  }

 private:
  void Learn(const ReloadEvent& event) {
    if (event.kind == Event::kWorkerStaged && event.overlap) may_overlap_ = event.generation;
    if (event.kind == Event::kHeld) held_.insert(event.generation);
    if (event.kind == Event::kConfirmed && asked_ == event.generation && dead_.contains(asked_)) {
      confirmed_ = event.generation;
      holders_.erase(event.generation);
    }
    if (event.kind == Event::kWorkerExited) dead_.insert(event.generation);
  }

  void Check(const ReloadAction& action) {
    switch (action.kind) {
      case Action::kEnter:
        EXPECT_TRUE(ReloadMachine::Allowed(step_, action.step))
            << ipc::ServerStateName(step_) << " -> " << ipc::ServerStateName(action.step);
        moves.insert({step_, action.step});
        step_ = action.step;
        break;
      case Action::kSpawn:
        EXPECT_GT(action.generation, last_);  // numbers are never used twice
        last_ = action.generation;
        break;
      case Action::kAdmit:
        // A21: at most one generation may hold device memory, with `overlap` two. A27: unconfirmed
        // never allocates.
        EXPECT_LE(holders_.size(), action.generation == may_overlap_ ? 1u : 0u)
            << action.generation << " admitted beside another";
        holders_.insert(action.generation);
        break;
      case Action::kServe:
        EXPECT_TRUE(holders_.contains(action.generation));
        EXPECT_FALSE(dead_.contains(action.generation));
        // Never two at once: the one before holds, or is dead.
        if (serving_ != action.generation && serving_ != 0) {
          EXPECT_TRUE(held_.contains(serving_) || dead_.contains(serving_)) << serving_;
        }
        serving_ = action.generation;
        held_.erase(action.generation);
        break;
      case Action::kOverridden:
        // Only where somebody asked for it: then what it holds is on his head.
        EXPECT_TRUE(override_asked);
        EXPECT_EQ(asked_, action.generation);
        holders_.erase(action.generation);
        break;
      case Action::kConfirm:
        EXPECT_TRUE(dead_.contains(action.generation)) << "asked before it was reaped";
        asked_ = action.generation;
        break;
      case Action::kBegin:
        EXPECT_FALSE(reload_open_);
        reload_open_ = true;
        break;
      case Action::kFinish:
        reload_open_ = false;
        break;
      case Action::kStopped:
        EXPECT_EQ(step_, State::kStopped);
        break;
      default:
        break;
    }
  }

  State step_ = State::kStarting;
  uint64_t last_ = 0, asked_ = 0, confirmed_ = 0;
  uint64_t may_overlap_ = 0, serving_ = 0;
  std::set<uint64_t> holders_, dead_, held_;
  bool reload_open_ = false;
};

TEST(ReloadMachine, A21_A27_RandomWalksNeverAdmitTwoOrUnconfirmed) {
  std::mt19937 random(20240607);
  std::set<std::pair<State, Event>> met;
  std::set<std::pair<State, State>> moves;
  for (int walk = 0; walk < 20000; ++walk) {
    ReloadMachine machine{loader::ReloadPolicy{}};
    Oracle oracle;
    int64_t now = 1;
    oracle.Follow(machine.Start(now), nullptr);
    // Most lives begin well: one that does not is soon over.
    for (const Event event : {Event::kWorkerStaged, Event::kWorkerReady}) {
      const ReloadEvent first{event, 1, "", false};
      if (walk % 4 != 0) oracle.Follow(machine.Handle(first, now), &first);
    }
    std::set<uint64_t> exited;
    for (int step = 0; step < 200 && machine.step() != State::kStopped; ++step) {
      ReloadEvent event{static_cast<Event>(random() % kReloadEventKinds), 0, {}};
      if (event.kind == Event::kStop && random() % 20 != 0) continue;
      const uint64_t parts[] = {machine.old_generation(), machine.next_generation(),
                                machine.beside_generation()};
      event.generation = parts[random() % 3];
      event.overlap = random() % 2 == 0;
      if (exited.contains(event.generation) &&
          (event.kind == Event::kWorkerExited || event.kind == Event::kWorkerStaged ||
           event.kind == Event::kWorkerReady || event.kind == Event::kHeld ||
           event.kind == Event::kWorkerFailed)) {
        continue;  // a dead worker says nothing
      }
      if (event.kind == Event::kTimeout && machine.deadline_ns() != 0) {
        now = std::max(now, machine.deadline_ns());
      }
      if (event.kind == Event::kWorkerExited) exited.insert(event.generation);
      now += static_cast<int64_t>(random() % 1000) * kMs;
      met.insert({machine.step(), event.kind});
      oracle.override_asked |= event.kind == Event::kOverride;
      oracle.Follow(machine.Handle(event, now), &event);
      if (HasFailure()) return;
    }
    moves.insert(oracle.moves.begin(), oracle.moves.end());
  }
  // The table has no row that nobody can take.
  for (const ReloadTransition& row : ReloadTransitions()) {
    EXPECT_TRUE(moves.contains({row.from, row.to}))
        << ipc::ServerStateName(row.from) << " -> " << ipc::ServerStateName(row.to);
  }
  EXPECT_EQ(met.size(), (kRestingStates.size() - 1) * kReloadEventKinds);
}

}  // namespace
}  // namespace baton::runtime

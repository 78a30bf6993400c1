#include "runtime/supervisor/reload_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace baton::runtime {
namespace {

using Event = ReloadEvent::Kind;
using Action = ReloadAction::Kind;
using State = ipc::ServerState;

constexpr int64_t kMs = 1'000'000;

// A machine, the time, and all that it ever did.
class Life {
 public:
  explicit Life(loader::ReloadPolicy policy = {}) : machine(policy) { Take(machine.Start(now)); }

  std::vector<ReloadAction> Send(Event kind, uint64_t generation = 0, std::string detail = "why") {
    auto actions = machine.Handle({kind, generation, std::move(detail)}, now);
    Take(actions);
    return actions;
  }
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

std::vector<Action> KindsOf(const std::vector<ReloadAction>& actions) {
  std::vector<Action> kinds;
  for (const auto& action : actions) kinds.push_back(action.kind);
  return kinds;
}

bool Has(const std::vector<ReloadAction>& actions, Action kind) {
  const auto kinds = KindsOf(actions);
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

// Drives a fresh machine into `state`.
Life At(State state) {
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
const std::vector<State> kRestingStates = {
    State::kStarting,   State::kServing,   State::kStaging,   State::kDraining,
    State::kClosing,    State::kExiting,   State::kConfirming, State::kAdmitting,
    State::kRemapping,  State::kUnavailable, State::kStopped};

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
  t[S::kStaging] = {{{Event::kWorkerStaged, kNext}, S::kDraining},
                    {{Event::kWorkerFailed, kNext}, S::kServing},
                    {{Event::kWorkerExited, kNext}, S::kServing},
                    {{Event::kWorkerExited, kOld}, S::kClosing},
                    {{Event::kTimeout, kOld}, S::kServing},
                    {{Event::kStop, kOld}, S::kDraining}};
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
  return event != Event::kReloadRequested && event != Event::kTimeout && event != Event::kStop;
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
  void Follow(const std::vector<ReloadAction>& actions, const ReloadEvent* event) {
    if (event != nullptr) Learn(*event);
    for (const auto& action : actions) Check(action);
  }

 private:
  void Learn(const ReloadEvent& event) {
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
        step_ = action.step;
        break;
      case Action::kSpawn:
        EXPECT_GT(action.generation, last_);  // numbers are never used twice
        last_ = action.generation;
        break;
      case Action::kAdmit:
        // A21: at most one generation may hold device memory. A27: unconfirmed never allocates.
        EXPECT_TRUE(holders_.empty()) << action.generation << " admitted beside another";
        holders_.insert(action.generation);
        break;
      case Action::kServe:
        EXPECT_TRUE(holders_.contains(action.generation));
        EXPECT_FALSE(dead_.contains(action.generation));
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
  std::set<uint64_t> holders_, dead_;
  bool reload_open_ = false;
};

TEST(ReloadMachine, A21_A27_RandomWalksNeverAdmitTwoOrUnconfirmed) {
  std::mt19937 random(20240607);
  std::set<std::pair<State, Event>> met;
  for (int walk = 0; walk < 40000; ++walk) {
    ReloadMachine machine{loader::ReloadPolicy{}};
    Oracle oracle;
    int64_t now = 1;
    oracle.Follow(machine.Start(now), nullptr);
    std::set<uint64_t> exited;
    for (int step = 0; step < 200 && machine.step() != State::kStopped; ++step) {
      ReloadEvent event{static_cast<Event>(random() % kReloadEventKinds), 0, {}};
      if (event.kind == Event::kStop && random() % 20 != 0) continue;
      event.generation = random() % 2 ? machine.old_generation() : machine.next_generation();
      if (exited.contains(event.generation) &&
          (event.kind == Event::kWorkerExited || event.kind == Event::kWorkerStaged ||
           event.kind == Event::kWorkerReady || event.kind == Event::kHeld)) {
        continue;  // a dead worker says nothing
      }
      if (event.kind == Event::kTimeout && machine.deadline_ns() != 0) {
        now = std::max(now, machine.deadline_ns());
      }
      if (event.kind == Event::kWorkerExited) exited.insert(event.generation);
      now += static_cast<int64_t>(random() % 1000) * kMs;
      met.insert({machine.step(), event.kind});
      oracle.Follow(machine.Handle(event, now), &event);
      if (HasFailure()) return;
    }
  }
  EXPECT_EQ(met.size(), (kRestingStates.size() - 1) * kReloadEventKinds);
}

TEST(ReloadMachine, AReloadTakesTheStepsInOrder) {
  Life life;
  life.Serve();
  life.log.clear();
  life.Remap();
  life.Next(Event::kImportsMapped);
  std::vector<State> steps;
  for (const auto& action : life.log) {
    if (action.kind == Action::kEnter) steps.push_back(action.step);
  }
  EXPECT_THAT(steps, testing::ElementsAre(State::kStaging, State::kHolding, State::kDraining,
                                          State::kClosing, State::kExiting, State::kConfirming,
                                          State::kAdmitting, State::kRemapping, State::kServing));
  EXPECT_EQ(life.machine.serving_generation(), 2);
  EXPECT_EQ(life.Last(Action::kFinish)->outcome, "swapped");
  EXPECT_EQ(life.machine.reason(), "");
}

TEST(ReloadMachine, A19_ASuccessorThatFailsLeavesTheOldOneServing) {
  for (const Event failure : {Event::kWorkerFailed, Event::kWorkerExited}) {
    for (const State state : {State::kStaging, State::kDraining}) {
      Life life = At(state);
      const auto actions = life.Next(failure);
      EXPECT_EQ(life.machine.step(), State::kServing);
      EXPECT_EQ(life.machine.serving_generation(), 1);
      EXPECT_TRUE(Has(actions, Action::kKill));
      EXPECT_EQ(Has(actions, Action::kServe), state == State::kDraining);  // ends the hold
      EXPECT_EQ(life.Last(Action::kFinish)->outcome, "kept-old");
      EXPECT_THAT(life.machine.reason(), testing::HasSubstr("generation 2 failed"));
    }
  }
}

TEST(ReloadMachine, A26_TheLoadTimeoutIsThePolicys) {
  loader::ReloadPolicy policy;
  policy.load_timeout = absl::Hours(3);
  Life life(policy);
  life.Serve();
  life.Stage();
  EXPECT_EQ(life.machine.deadline_ns(), life.now + absl::ToInt64Nanoseconds(absl::Hours(3)));
  policy.load_timeout = absl::InfiniteDuration();
  Life forever(policy);
  EXPECT_EQ(forever.machine.deadline_ns(), 0);
}

TEST(ReloadMachine, DrainTimeoutGoesBackToServing) {
  Life life = At(State::kDraining);
  const auto actions = life.Timeout();
  EXPECT_TRUE(Has(actions, Action::kServe));
  EXPECT_EQ(life.Last(Action::kServe)->generation, 1);
  EXPECT_EQ(life.Last(Action::kKill)->generation, 2);
  EXPECT_THAT(life.machine.reason(), testing::HasSubstr("drain_timeout"));
}

TEST(ReloadMachine, A23_AWorkerThatHangsInCleanupIsKilled) {
  Life life = At(State::kExiting);
  EXPECT_EQ(life.Last(Action::kExit)->generation, 1);
  EXPECT_TRUE(Has(life.Timeout(), Action::kKill));
  EXPECT_EQ(life.machine.step(), State::kExiting);
  life.Timeout();  // still there: nothing goes on, and it says so
  EXPECT_EQ(life.machine.step(), State::kExiting);
  EXPECT_THAT(life.machine.reason(), testing::HasSubstr("wedged"));
  life.Old(Event::kWorkerExited);
  EXPECT_EQ(life.machine.step(), State::kConfirming);
}

TEST(ReloadMachine, A27_UnconfirmedStaysAndSaysWhoPins) {
  Life life = At(State::kConfirming);
  life.Send(Event::kNotConfirmed, 1, "pinned-by 77");
  const auto actions = life.Timeout();
  EXPECT_THAT(KindsOf(actions), testing::ElementsAre(Action::kUnconfirmed));
  EXPECT_EQ(life.machine.step(), State::kConfirming);
  EXPECT_THAT(life.machine.reason(), testing::HasSubstr("pinned-by 77"));
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.machine.step(), State::kAdmitting);
}

TEST(ReloadMachine, A31_ACrashStagesTheSuccessorAtOnce) {
  Life life = At(State::kServing);
  const auto actions = life.Old(Event::kWorkerExited);
  EXPECT_EQ(life.Last(Action::kBegin)->detail, "worker-death");
  EXPECT_TRUE(Has(actions, Action::kSpawn));
  EXPECT_EQ(life.machine.step(), State::kClosing);
  life.Next(Event::kWorkerStaged);  // while the old one's imports are still being closed
  EXPECT_FALSE(life.Last(Action::kAdmit)->generation == 2);
  life.Old(Event::kImportsClosed);
  EXPECT_EQ(life.machine.step(), State::kConfirming);  // nobody left to wait for in EXITING
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.Last(Action::kAdmit)->generation, 2);
}

TEST(ReloadMachine, ACrashWhileTheSuccessorIsStagedGoesOnWithIt) {
  for (const State state : {State::kStaging, State::kDraining}) {
    Life life = At(state);
    EXPECT_FALSE(Has(life.Old(Event::kWorkerExited), Action::kSpawn));
    EXPECT_EQ(life.machine.next_generation(), 2);
    life.Next(Event::kWorkerStaged);
    life.Old(Event::kImportsClosed);
    life.Old(Event::kConfirmed);
    life.Next(Event::kWorkerReady);
    life.Next(Event::kImportsMapped);
    EXPECT_EQ(life.machine.step(), State::kServing);
    EXPECT_EQ(life.machine.serving_generation(), 2);
  }
}

TEST(ReloadMachine, AWedgedWorkerIsKilledAndReplaced) {
  Life life = At(State::kServing);
  EXPECT_THAT(KindsOf(life.Send(Event::kWorkerFailed, 1, "wedged")),
              testing::ElementsAre(Action::kKill));
  life.Old(Event::kWorkerExited);
  EXPECT_THAT(life.machine.reason(), testing::HasSubstr("wedged"));
  EXPECT_EQ(life.machine.next_generation(), 2);
}

TEST(ReloadMachine, AfterAdmissionTheFailedWorkerIsConfirmedGoneToo) {
  for (const State state : {State::kAdmitting, State::kRemapping}) {
    Life life = At(state);
    life.Next(Event::kWorkerFailed);
    EXPECT_EQ(life.machine.step(), State::kClosing);
    EXPECT_EQ(life.machine.old_generation(), 2);
    EXPECT_EQ(life.machine.next_generation(), 3);  // first failure: at once
    life.Next(Event::kWorkerStaged);
    life.Old(Event::kImportsClosed);
    EXPECT_EQ(life.machine.step(), State::kExiting);
    EXPECT_EQ(life.Last(Action::kKill)->generation, 2);
    life.Old(Event::kWorkerExited);
    EXPECT_NE(life.Last(Action::kAdmit)->generation, 3);
    life.Old(Event::kConfirmed);
    EXPECT_EQ(life.Last(Action::kFailedGeneration)->generation, 2);
    EXPECT_EQ(life.Last(Action::kAdmit)->generation, 3);
  }
}

TEST(ReloadMachine, TheNewestSecretsGetTwoTriesThenTheLastGoodOnes) {
  Life life = At(State::kAdmitting);
  EXPECT_FALSE(life.Last(Action::kSpawn)->last_good_secrets);
  const auto fail = [&life] {
    life.Next(Event::kWorkerFailed);
    life.Old(Event::kWorkerExited);
    life.Old(Event::kImportsClosed);
    life.Old(Event::kConfirmed);
    if (life.machine.next_generation() == 0) life.Timeout();
    life.Next(Event::kWorkerStaged);
  };
  fail();
  EXPECT_EQ(life.machine.next_generation(), 3);
  EXPECT_FALSE(life.Last(Action::kSpawn)->last_good_secrets);
  fail();
  EXPECT_EQ(life.machine.next_generation(), 4);
  EXPECT_TRUE(life.Last(Action::kSpawn)->last_good_secrets);
  life.Next(Event::kWorkerReady);
  life.Next(Event::kImportsMapped);
  EXPECT_EQ(life.machine.step(), State::kServing);
  EXPECT_THAT(life.machine.reason(), testing::HasSubstr("last good"));
  life.Stage();  // they changed again: the newest are worth a try
  EXPECT_FALSE(life.Last(Action::kSpawn)->last_good_secrets);
}

TEST(ReloadMachine, BackoffDoublesAndHealthForgetsIt) {
  Life life = At(State::kServing);
  life.Old(Event::kWorkerExited);  // failure 1: the successor starts at once
  life.Old(Event::kImportsClosed);
  life.Old(Event::kConfirmed);
  std::vector<int64_t> delays;
  for (int i = 0; i < 12; ++i) {
    life.Next(Event::kWorkerFailed);
    EXPECT_EQ(life.machine.step(), State::kUnavailable);
    EXPECT_EQ(life.machine.next_generation(), 0);
    EXPECT_THAT(life.machine.reason(), testing::HasSubstr("trying again in"));
    delays.push_back((life.machine.deadline_ns() - life.now) / kMs);
    life.Timeout();
    EXPECT_NE(life.machine.next_generation(), 0);
  }
  EXPECT_THAT(delays, testing::ElementsAre(100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600,
                                           30000, 30000, 30000));
  life.Next(Event::kWorkerStaged);
  life.Next(Event::kWorkerReady);
  life.Next(Event::kImportsMapped);
  EXPECT_EQ(life.machine.failures_in_a_row(), 13);
  life.Timeout();
  EXPECT_EQ(life.machine.failures_in_a_row(), 0);
  EXPECT_EQ(life.machine.step(), State::kServing);
}

TEST(ReloadMachine, A15_AChangeDuringALoadIsLoadedNext) {
  for (const State state : {State::kStarting, State::kStaging, State::kDraining, State::kClosing,
                            State::kExiting, State::kConfirming, State::kAdmitting,
                            State::kRemapping}) {
    Life life = At(state);
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(life.Send(Event::kReloadRequested, 0, "secrets").empty());
    }
    const uint64_t loading = life.machine.next_generation();
    life.Next(Event::kWorkerStaged);
    life.Old(Event::kHeld);
    life.Old(Event::kImportsClosed);
    life.Old(Event::kWorkerExited);
    life.Old(Event::kConfirmed);
    life.Next(Event::kWorkerReady);
    if (state != State::kStarting) life.Send(Event::kImportsMapped, loading);
    EXPECT_EQ(life.machine.step(), State::kStaging) << ipc::ServerStateName(state);
    EXPECT_EQ(life.machine.serving_generation(), loading);
    EXPECT_EQ(life.machine.next_generation(), loading + 1);
  }
}

TEST(ReloadMachine, A15_AChangeDuringAFailingLoadIsLoadedNext) {
  Life life = At(State::kStaging);
  life.Stage();
  life.Next(Event::kWorkerFailed);
  EXPECT_EQ(life.machine.step(), State::kStaging);
  EXPECT_EQ(life.machine.next_generation(), 3);
}

TEST(ReloadMachine, AChangeWhileUnavailableIsTriedAtOnce) {
  Life life = At(State::kUnavailable);
  ASSERT_EQ(life.machine.next_generation(), 0);
  EXPECT_THAT(KindsOf(life.Send(Event::kReloadRequested, 0, "secrets")),
              testing::ElementsAre(Action::kJoin, Action::kSpawn));
}

TEST(ReloadMachine, A30_StopDrainsExitsAndConfirms) {
  Life life = At(State::kServing);
  life.log.clear();
  life.Send(Event::kStop);
  EXPECT_EQ(life.machine.state(), State::kStopping);
  life.Old(Event::kHeld);
  life.Old(Event::kImportsClosed);
  EXPECT_EQ(life.Last(Action::kExit)->generation, 1);
  life.Old(Event::kWorkerExited);
  EXPECT_EQ(life.machine.state(), State::kStopping);
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.machine.state(), State::kStopped);
  EXPECT_EQ(life.Last(Action::kBegin)->detail, "stop");
  EXPECT_EQ(life.Last(Action::kFinish)->outcome, "stopped");
  EXPECT_EQ(life.log.back().kind, Action::kStopped);
  EXPECT_EQ(life.log.back().detail, "");
  EXPECT_TRUE(life.Kinds(Action::kSpawn).empty());
}

TEST(ReloadMachine, A30_StopEndsFromEveryStateWhateverHangs) {
  for (const State state : kRestingStates) {
    Life life = At(state);
    life.Send(Event::kStop);
    // Nobody answers anything; only the kernel reaps what was killed.
    for (int i = 0; i < 12 && life.machine.step() != State::kStopped; ++i) {
      if (life.machine.step() == State::kExiting) {
        life.Old(Event::kWorkerExited);
      } else {
        life.Timeout();
      }
    }
    EXPECT_EQ(life.machine.step(), State::kStopped) << ipc::ServerStateName(state);
    EXPECT_EQ(life.machine.deadline_ns(), 0);
  }
}

TEST(ReloadMachine, AFirstWorkerThatFailsEndsTheServer) {
  Life life;
  life.Send(Event::kWorkerFailed, 1, "config.yaml:3: no such loader");
  life.Old(Event::kImportsClosed);
  life.Old(Event::kWorkerExited);
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.machine.step(), State::kStopped);
  EXPECT_EQ(life.log.back().kind, Action::kStopped);
  EXPECT_EQ(life.log.back().detail, "config.yaml:3: no such loader");
}

}  // namespace
}  // namespace baton::runtime

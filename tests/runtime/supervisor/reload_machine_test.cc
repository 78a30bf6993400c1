// What a life of a server looks like, step by step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/runtime/supervisor/machine_life.h"

namespace baton::runtime {
namespace {

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
  // Still there: nothing goes on, and whoever waits is told.
  EXPECT_TRUE(Has(life.Timeout(), Action::kStillUnavailable));
  EXPECT_TRUE(Has(life.Send(Event::kReloadRequested, 0, "command"), Action::kStillUnavailable));
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
  life.Send(Event::kNotConfirmed, 1, "pinned-by 78");  // what is known later is said, too
  EXPECT_THAT(life.machine.reason(), testing::HasSubstr("pinned-by 78"));
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.machine.step(), State::kAdmitting);
}

// Nobody is cut off for a time in which nobody could do anything.
TEST(ReloadMachine, AStandstillPutsDeadlinesOff) {
  Life life = At(State::kClosing);
  const int64_t deadline = life.machine.deadline_ns();
  life.machine.PutOff(5000 * kMs);
  EXPECT_EQ(life.machine.deadline_ns(), deadline + 5000 * kMs);
  life.now = deadline;
  EXPECT_TRUE(life.Send(Event::kTimeout).empty());
  EXPECT_TRUE(Has(life.Timeout(), Action::kCutOffClosers));
  Life serving = At(State::kServing);
  serving.machine.PutOff(5000 * kMs);  // where nothing is waited for, nothing is
  EXPECT_EQ(serving.machine.deadline_ns(), 0);
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
  EXPECT_FALSE(life.Last(Action::kSpawn)->last_good);
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
  EXPECT_FALSE(life.Last(Action::kSpawn)->last_good);
  fail();
  EXPECT_EQ(life.machine.next_generation(), 4);
  EXPECT_TRUE(life.Last(Action::kSpawn)->last_good);
  life.Next(Event::kWorkerReady);
  life.Next(Event::kImportsMapped);
  EXPECT_EQ(life.machine.step(), State::kServing);
  EXPECT_THAT(life.machine.reason(), testing::HasSubstr("last good"));
  life.Stage();  // they changed again: the newest are worth a try
  EXPECT_FALSE(life.Last(Action::kSpawn)->last_good);
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
  for (const State state :
       {State::kStarting, State::kStaging, State::kDraining, State::kClosing, State::kExiting,
        State::kConfirming, State::kAdmitting, State::kRemapping}) {
    Life life = At(state);
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(life.Send(Event::kReloadRequested, 0, "secrets").empty());
    }
    const uint64_t loading = life.machine.next_generation();
    life.Next(Event::kWorkerStaged);
    life.Old(Event::kHeld);
    life.Old(Event::kLeasesReturned);
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

// Past the old worker's end the next try reads what has changed: it takes no further reload.
TEST(ReloadMachine, A13_A15_AChangeBeforeAFailureIsInTheNextTry) {
  for (const State state : {State::kClosing, State::kExiting, State::kConfirming, State::kAdmitting,
                            State::kRemapping}) {
    Life life = At(state);
    life.Stage();  // while a worker is on its way with what was there before
    life.Next(Event::kWorkerFailed);
    for (int i = 0; i < 2; ++i) {  // the old one, and where it has come so far the one that failed
      life.Old(Event::kImportsClosed);
      life.Old(Event::kWorkerExited);
      life.Old(Event::kConfirmed);
    }
    EXPECT_EQ(life.machine.next_generation(), 3u) << ipc::ServerStateName(state);
    EXPECT_FALSE(life.Kinds(Action::kJoin).empty()) << "whoever asked waits for another one";
    life.Next(Event::kWorkerStaged);
    life.Next(Event::kWorkerReady);
    life.Next(Event::kImportsMapped);
    EXPECT_EQ(life.machine.step(), State::kServing) << ipc::ServerStateName(state);
    EXPECT_EQ(life.machine.serving_generation(), 3u);
    EXPECT_EQ(life.machine.next_generation(), 0u) << "it is loaded a second time";
  }
}

TEST(ReloadMachine, AChangeWhileUnavailableIsTriedAtOnce) {
  Life life = At(State::kUnavailable);
  ASSERT_EQ(life.machine.next_generation(), 0);
  EXPECT_THAT(KindsOf(life.Send(Event::kReloadRequested, 0, "secrets")),
              testing::ElementsAre(Action::kJoin, Action::kSpawn));
}

TEST(ReloadMachine, EachWorkerLostWhileUnavailableIsTold) {
  Life life = At(State::kUnavailable);
  life.Send(Event::kReloadRequested, 0, "command");
  EXPECT_TRUE(Has(life.Next(Event::kWorkerFailed), Action::kStillUnavailable));
  EXPECT_EQ(life.machine.step(), State::kUnavailable);
}

TEST(ReloadMachine, A27_WhoAsksWhileUnconfirmedIsTold) {
  Life life = At(State::kConfirming);
  EXPECT_FALSE(Has(life.Send(Event::kReloadRequested), Action::kUnconfirmed));
  EXPECT_TRUE(Has(life.Timeout(), Action::kUnconfirmed));
  EXPECT_TRUE(Has(life.Send(Event::kReloadRequested), Action::kUnconfirmed));
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

TEST(ReloadMachine, A30_StopTellsOfASuccessorThatNeverServed) {
  for (const State state : {State::kAdmitting, State::kRemapping}) {
    for (const bool confirmed : {true, false}) {
      Life life = At(state);
      life.Send(Event::kStop);
      life.Old(Event::kImportsClosed);
      life.Old(Event::kWorkerExited);
      EXPECT_EQ(life.Last(Action::kFailedGeneration), nullptr);
      const auto actions = confirmed ? life.Old(Event::kConfirmed) : life.Timeout();
      EXPECT_EQ(life.machine.step(), State::kStopped);
      ASSERT_TRUE(Has(actions, Action::kFailedGeneration));
      EXPECT_EQ(life.Last(Action::kFailedGeneration)->generation, 2);
      EXPECT_THAT(life.Last(Action::kFailedGeneration)->detail, testing::HasSubstr("stop"));
      EXPECT_EQ(life.Kinds(Action::kFailedGeneration).size(), 1);
    }
  }
  Life life = At(State::kServing);  // one that served has the reload's own receipt
  life.Send(Event::kStop);
  life.Old(Event::kHeld);
  life.Old(Event::kImportsClosed);
  life.Old(Event::kWorkerExited);
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.Last(Action::kFailedGeneration), nullptr);
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

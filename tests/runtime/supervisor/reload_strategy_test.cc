// Leases, `overlap`, overrides and retries, step by step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "runtime/supervisor/strategy.h"
#include "tests/runtime/supervisor/machine_life.h"

namespace baton::runtime {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<State> Steps(const Life& life) {
  std::vector<State> steps;
  for (const auto& action : life.log) {
    if (action.kind == Action::kEnter) steps.push_back(action.step);
  }
  return steps;
}

// ---- leases ----

TEST(ReloadMachine, ADrainWaitsForRequestsAndForLeases) {
  for (const bool held_first : {true, false}) {
    Life life = At(State::kServing);
    life.Stage();
    EXPECT_TRUE(Has(life.Next(Event::kWorkerStaged), Action::kTellClosing));
    life.Old(held_first ? Event::kHeld : Event::kLeasesReturned);
    EXPECT_EQ(life.machine.step(), State::kDraining);
    life.Old(held_first ? Event::kLeasesReturned : Event::kHeld);
    EXPECT_EQ(life.machine.step(), State::kClosing);
  }
}

TEST(ReloadMachine, LeasesThatAreNotReturnedKeepTheOldOneAndNameTheHolders) {
  Life life = At(State::kServing);
  life.Stage();
  life.Next(Event::kWorkerStaged);
  life.Old(Event::kHeld);
  life.Send(Event::kLeasesHeld, 1, "pid 77 holds device memory (2 leases of channel 5)");
  const auto actions = life.Timeout();
  EXPECT_EQ(life.machine.step(), State::kServing);
  EXPECT_EQ(life.Last(Action::kServe)->generation, 1);
  EXPECT_TRUE(Has(actions, Action::kTellKept));
  EXPECT_EQ(life.Last(Action::kFinish)->outcome, "kept-old");
  EXPECT_THAT(life.machine.reason(), HasSubstr("pid 77 holds device memory (2 leases"));
  EXPECT_THAT(life.machine.reason(), testing::Not(HasSubstr("requests have not ended")));
  EXPECT_TRUE(life.machine.serves());
}

TEST(ReloadMachine, AStopDoesNotWaitForLeasesInDraining) {
  Life life = At(State::kServing);
  life.Send(Event::kStop);
  life.Send(Event::kLeasesHeld, 1, "pid 77");
  life.Old(Event::kHeld);
  EXPECT_EQ(life.machine.step(), State::kClosing);
}

// ---- retries of a drain that came to nothing ----

TEST(ReloadMachine, ADrainTimeoutIsTriedAgainWithoutAnotherChange) {
  Life life = At(State::kDraining);
  life.Timeout();
  EXPECT_EQ(life.machine.step(), State::kServing);
  EXPECT_THAT(life.machine.reason(), HasSubstr("trying again in 30s"));
  const int64_t retry = life.machine.retry_at_ns();
  EXPECT_EQ(retry, life.now + absl::ToInt64Nanoseconds(absl::Seconds(30)));
  const auto actions = life.Timeout();
  EXPECT_EQ(life.now, retry);
  EXPECT_EQ(life.machine.step(), State::kStaging);
  EXPECT_EQ(life.Last(Action::kBegin)->detail, "secrets");
  EXPECT_TRUE(Has(actions, Action::kSpawn));
  // Once more in vain: it serves for longer before the next try.
  life.Next(Event::kWorkerStaged);
  life.Timeout();
  EXPECT_THAT(life.machine.reason(), HasSubstr("trying again in 1m"));
  life.Timeout();
  life.Serve();
  life.Old(Event::kHeld);
  life.Old(Event::kLeasesReturned);
  life.Old(Event::kImportsClosed);
  life.Old(Event::kWorkerExited);
  life.Old(Event::kConfirmed);
  life.Next(Event::kWorkerReady);
  life.Next(Event::kImportsMapped);
  EXPECT_EQ(life.machine.step(), State::kServing);
  EXPECT_EQ(life.machine.retry_at_ns(), 0);
  EXPECT_EQ(life.machine.reason(), "");
}

TEST(ReloadMachine, ARetryThatIsNotNeededAnyMoreIsForgotten) {
  Life life = At(State::kDraining);
  life.Timeout();
  life.Send(Event::kNotNeeded);
  EXPECT_EQ(life.machine.retry_at_ns(), 0);
  EXPECT_EQ(life.machine.reason(), "");
}

// What the secrets are says nothing of what else was to be loaded.
TEST(ReloadMachine, ARetryForSomethingElseThanSecretsIsKept) {
  Life life = At(State::kServing);
  life.Send(Event::kReloadRequested, 0, "model");
  life.Next(Event::kWorkerStaged);
  life.Timeout();
  life.Send(Event::kNotNeeded);
  EXPECT_NE(life.machine.retry_at_ns(), 0);
  EXPECT_NE(life.machine.reason(), "");
  life.Stage();  // the secrets change meanwhile: it has both
  life.Next(Event::kWorkerStaged);
  life.Timeout();
  life.Send(Event::kNotNeeded);
  EXPECT_NE(life.machine.retry_at_ns(), 0);
}

TEST(ReloadMachine, SecretsDoNotTakeThePlaceOfAnotherTrigger) {
  Life life = At(State::kStaging);
  life.Send(Event::kReloadRequested, 0, "model");
  life.Send(Event::kReloadRequested, 0, "secrets");
  life.Next(Event::kWorkerFailed);
  EXPECT_EQ(life.Last(Action::kBegin)->detail, "model");
}

TEST(ReloadMachine, ACommandThatCameToNothingIsItsSendersToRepeat) {
  Life life = At(State::kServing);
  life.Send(Event::kReloadRequested, 0, "command");
  life.Next(Event::kWorkerStaged);
  life.Timeout();
  EXPECT_EQ(life.machine.step(), State::kServing);
  EXPECT_EQ(life.machine.retry_at_ns(), 0);
}

// ---- overrides ----

TEST(ReloadMachine, A27_AnOverrideGoesOnOnlyAfterTheConfirmTimeout) {
  Life life = At(State::kConfirming);
  life.Send(Event::kOverride);
  EXPECT_EQ(life.machine.step(), State::kConfirming);
  life.Next(Event::kWorkerStaged);
  life.Send(Event::kNotConfirmed, 1, "pinned-by 77");
  EXPECT_FALSE(Has(life.log, Action::kOverridden));
  const auto actions = life.Timeout();
  ASSERT_TRUE(Has(actions, Action::kOverridden));
  EXPECT_EQ(life.Last(Action::kOverridden)->detail, "pinned-by 77");
  EXPECT_EQ(life.machine.step(), State::kAdmitting);
  EXPECT_TRUE(life.machine.reason().empty());
}

TEST(ReloadMachine, A27_AnOverrideOfWhatIsKnownToBeUnconfirmedIsTakenAtOnce) {
  Life life = At(State::kConfirming);
  life.Timeout();
  EXPECT_EQ(life.machine.step(), State::kConfirming);
  life.Send(Event::kOverride);
  EXPECT_EQ(life.machine.step(), State::kAdmitting);
}

TEST(ReloadMachine, AnOverrideIsForOneReload) {
  Life life = At(State::kServing);
  life.Send(Event::kOverride);  // nothing to override
  life.Confirm();
  life.Timeout();
  EXPECT_EQ(life.machine.step(), State::kConfirming);
}

// Asked for with a reload that has to wait, it says nothing of the one that runs.
TEST(ReloadMachine, A27_AnOverrideWaitsWithTheReloadThatItIsFor) {
  Life life = At(State::kClosing);
  life.Send(Event::kReloadRequested, 0, "command");
  life.Send(Event::kOverride);
  life.Old(Event::kImportsClosed);
  life.Old(Event::kWorkerExited);
  life.Timeout();
  EXPECT_EQ(life.machine.step(), State::kConfirming);
  EXPECT_FALSE(Has(life.log, Action::kOverridden));
  life.Old(Event::kConfirmed);
  life.Next(Event::kWorkerReady);
  life.Next(Event::kImportsMapped);
  EXPECT_EQ(life.machine.step(), State::kStaging);
  life.Next(Event::kWorkerStaged);
  life.Old(Event::kHeld);
  life.Old(Event::kLeasesReturned);
  life.Old(Event::kImportsClosed);
  life.Old(Event::kWorkerExited);
  EXPECT_TRUE(Has(life.Timeout(), Action::kOverridden));
  EXPECT_EQ(life.Last(Action::kOverridden)->generation, 2);
}

TEST(ReloadMachine, ThePolicyMayOverride) {
  loader::ReloadPolicy policy;
  policy.on_unconfirmed = loader::OnUnconfirmed::kOverride;
  Life life(policy);
  life.Serve();
  life.Confirm();
  EXPECT_TRUE(Has(life.Timeout(), Action::kOverridden));
}

// ---- overlap ----

TEST(ReloadMachine, OverlapBringsTheSuccessorUpBesideTheOldOne) {
  Life life;
  life.Serve();
  life.log.clear();
  life.RemapBeside();
  EXPECT_TRUE(life.machine.serves());
  EXPECT_FALSE(Has(life.log, Action::kHold));
  life.Next(Event::kImportsMapped);
  EXPECT_FALSE(life.machine.serves());
  const auto drained = life.Old(Event::kHeld);  // leases are waited for in CLOSING
  EXPECT_TRUE(Has(drained, Action::kServe));
  EXPECT_EQ(life.machine.serving_generation(), 2);
  EXPECT_TRUE(life.machine.serves());
  life.Old(Event::kImportsClosed);
  EXPECT_EQ(life.Last(Action::kExit)->generation, 1);
  life.Old(Event::kWorkerExited);
  life.Old(Event::kConfirmed);
  EXPECT_THAT(Steps(life), ElementsAre(State::kStaging, State::kAdmitting, State::kRemapping,
                                       State::kHolding, State::kDraining, State::kClosing,
                                       State::kExiting, State::kConfirming, State::kServing));
  EXPECT_EQ(life.Last(Action::kFinish)->outcome, "swapped");
  EXPECT_FALSE(Has(life.log, Action::kFailedGeneration));
  EXPECT_EQ(life.machine.old_generation(), 2);
  EXPECT_EQ(life.machine.beside_generation(), 0);
}

TEST(ReloadMachine, A19_ASuccessorThatFailsBesideCostsNothingAndIsConfirmedGone) {
  for (const Event failure : {Event::kWorkerFailed, Event::kWorkerExited, Event::kTimeout}) {
    for (const bool remapping : {false, true}) {
      if (failure == Event::kTimeout && remapping) continue;  // goes on
      Life life = At(State::kServing);
      remapping ? life.RemapBeside() : life.AdmitBeside();
      life.log.clear();
      failure == Event::kTimeout ? life.Timeout() : life.Next(failure);
      EXPECT_EQ(life.machine.step(), State::kClosing);
      EXPECT_EQ(life.machine.old_generation(), 2);
      EXPECT_EQ(life.machine.serving_generation(), 1);
      EXPECT_TRUE(life.machine.serves());
      EXPECT_FALSE(Has(life.log, Action::kHold));
      life.Old(Event::kImportsClosed);
      if (failure != Event::kWorkerExited) life.Old(Event::kWorkerExited);
      life.Old(Event::kConfirmed);
      EXPECT_EQ(life.machine.step(), State::kServing);
      EXPECT_EQ(life.Last(Action::kFailedGeneration)->generation, 2);
      EXPECT_EQ(life.Last(Action::kFinish)->outcome, "kept-old");
      EXPECT_EQ(life.machine.old_generation(), 1);
    }
  }
}

TEST(ReloadMachine, ADrainTimeoutBesideLetsTheOldOneGoOnAtOnce) {
  Life life = At(State::kServing);
  life.DrainBeside();
  life.log.clear();
  life.Timeout();
  EXPECT_EQ(life.Last(Action::kServe)->generation, 1);
  EXPECT_TRUE(life.machine.serves());
  life.Old(Event::kImportsClosed);
  EXPECT_EQ(life.Last(Action::kExit)->generation, 2);  // it did nothing wrong: it may clean up
  life.Old(Event::kWorkerExited);
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.Last(Action::kFinish)->outcome, "kept-old");
  EXPECT_NE(life.machine.retry_at_ns(), 0);
}

TEST(ReloadMachine, ADeathOfTheOldOneWhileItsSuccessorComesUpBesideIt) {
  for (const bool ready : {false, true}) {
    Life life = At(State::kServing);
    life.AdmitBeside();
    life.log.clear();
    life.Old(Event::kWorkerExited);
    EXPECT_FALSE(life.machine.serves());
    EXPECT_EQ(life.machine.step(), State::kClosing);
    EXPECT_EQ(life.machine.beside_generation(), 2);
    if (ready) life.Beside(Event::kWorkerReady);
    life.Old(Event::kImportsClosed);
    life.Old(Event::kConfirmed);
    EXPECT_EQ(life.machine.step(), ready ? State::kRemapping : State::kAdmitting);
    EXPECT_FALSE(Has(life.log, Action::kAdmit));  // it was, before
    if (!ready) life.Next(Event::kWorkerReady);
    life.Next(Event::kImportsMapped);
    EXPECT_EQ(life.machine.step(), State::kServing);
    EXPECT_EQ(life.machine.serving_generation(), 2);
  }
}

TEST(ReloadMachine, BothDieWhileOneComesUpBesideTheOther) {
  Life life = At(State::kServing);
  life.AdmitBeside();
  life.Old(Event::kWorkerExited);
  life.Beside(Event::kWorkerExited);
  life.Old(Event::kImportsClosed);
  life.log.clear();
  life.Old(Event::kConfirmed);
  // The successor held memory, too: it is closed and confirmed before another is admitted.
  EXPECT_EQ(life.machine.old_generation(), 2);
  EXPECT_EQ(life.machine.step(), State::kClosing);
  EXPECT_FALSE(Has(life.log, Action::kAdmit));
  life.Old(Event::kImportsClosed);
  EXPECT_EQ(life.machine.step(), State::kConfirming);
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.Last(Action::kFailedGeneration)->generation, 2);
}

TEST(ReloadMachine, ASuccessorThatDiesWhileTheOldOneLeavesIsReplacedAfterIt) {
  Life life = At(State::kServing);
  life.CloseBeside();
  EXPECT_TRUE(life.machine.serves());
  life.Beside(Event::kWorkerExited);
  EXPECT_FALSE(life.machine.serves());
  life.Old(Event::kImportsClosed);
  life.Old(Event::kWorkerExited);
  life.log.clear();
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.Last(Action::kFinish)->outcome, "swapped");
  EXPECT_EQ(life.Last(Action::kBegin)->detail, "worker-death");
  EXPECT_EQ(life.machine.step(), State::kClosing);
  EXPECT_EQ(life.machine.old_generation(), 2);
  EXPECT_EQ(life.machine.next_generation(), 3);
}

TEST(ReloadMachine, A15_AChangeWhileTheOldOneLeavesIsLoadedNext) {
  Life life = At(State::kServing);
  life.CloseBeside();
  EXPECT_TRUE(life.Send(Event::kReloadRequested, 0, "secrets").empty());
  life.Old(Event::kImportsClosed);
  life.Old(Event::kWorkerExited);
  life.Old(Event::kConfirmed);
  EXPECT_EQ(life.machine.step(), State::kStaging);
  EXPECT_EQ(life.machine.next_generation(), 3);
}

TEST(ReloadMachine, A30_StopEndsBothWorkersOfAnOverlap) {
  using Walk = void (Life::*)();
  for (const Walk walk :
       {&Life::AdmitBeside, &Life::RemapBeside, &Life::DrainBeside, &Life::CloseBeside}) {
    for (const bool hangs : {false, true}) {
      Life life = At(State::kServing);
      (life.*walk)();
      life.log.clear();
      life.Send(Event::kStop);
      EXPECT_EQ(life.machine.state(), State::kStopping);
      std::vector<uint64_t> confirmed;
      for (int i = 0; i < 20 && life.machine.step() != State::kStopped; ++i) {
        if (hangs) {
          const auto actions = life.Timeout();
          if (life.machine.step() == State::kExiting) life.Old(Event::kWorkerExited);
          continue;
        }
        life.Old(Event::kHeld);
        life.Old(Event::kImportsClosed);
        life.Old(Event::kWorkerExited);
        if (life.machine.step() == State::kConfirming) {
          confirmed.push_back(life.machine.old_generation());
        }
        life.Old(Event::kConfirmed);
      }
      EXPECT_EQ(life.machine.step(), State::kStopped);
      if (!hangs) {
        EXPECT_THAT(confirmed, testing::UnorderedElementsAre(1, 2));
      }
    }
  }
}

// ---- which strategy ----

TEST(StrategyTest, OverlapOnlyWhereBothFit) {
  using loader::ReloadStrategy;
  const Footprint fits{
      .serving_bytes = 100, .successor_bytes = 90, .in_use_bytes = 100, .capacity_bytes = 200};
  EXPECT_FALSE(ChooseStrategy(ReloadStrategy::kExclusive, fits).overlap);
  EXPECT_TRUE(ChooseStrategy(ReloadStrategy::kOverlap, fits).overlap);
  EXPECT_TRUE(ChooseStrategy(ReloadStrategy::kAuto, fits).overlap);

  Footprint tight = fits;
  tight.capacity_bytes = 199;  // what was measured counts, although it says that it needs less
  for (const auto strategy : {ReloadStrategy::kOverlap, ReloadStrategy::kAuto}) {
    const StrategyChoice choice = ChooseStrategy(strategy, tight);
    EXPECT_FALSE(choice.overlap);
    EXPECT_THAT(choice.reason, HasSubstr("does not fit twice: 100 bytes beside the 100 in use"));
  }
  Footprint grows = fits;
  grows.successor_bytes = 101;
  EXPECT_FALSE(ChooseStrategy(ReloadStrategy::kOverlap, grows).overlap);

  const Footprint nothing{.capacity_bytes = 200};
  EXPECT_TRUE(ChooseStrategy(ReloadStrategy::kOverlap, nothing).overlap);
  EXPECT_FALSE(ChooseStrategy(ReloadStrategy::kAuto, nothing).overlap);
}

}  // namespace
}  // namespace baton::runtime

// Every row of the table in gpu_confirmation.h.
#include "ipc/cuda/gpu_confirmation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tests/ipc/cuda/gpu_evidence.h"

namespace baton::ipc::cuda {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using State = GpuImporter::State;
using Verdict = GpuConfirmation::Verdict;

// The same in a container that does not see who uses the GPU.
GpuEvidence WithoutAList() {
  GpuEvidence evidence = AllIsWell();
  evidence.baseline = Survey(kFreeBefore, {});
  evidence.now = Survey(kFreeAfter, {});
  return evidence;
}

TEST(GpuConfirmationTest, AListThatIsTrustedAndEnoughFreeMemoryIsFreed) {
  const GpuConfirmation found = ConfirmGpuMemory(AllIsWell());
  EXPECT_EQ(found.verdict, Verdict::kFreed) << found.detail;
  EXPECT_EQ(found.source, "NVML process list + free memory");
  EXPECT_THAT(found.detail, IsEmpty());
  EXPECT_FALSE(found.wants_trial);
}

TEST(GpuConfirmationTest, A27_AnIncompleteQuestionIsUnknown) {
  for (const auto forget :
       {+[](GpuEvidence& e) { e.owner = 0; }, +[](GpuEvidence& e) { e.arena_bytes = 0; },
        +[](GpuEvidence& e) { e.needed_bytes = 0; }}) {
    GpuEvidence evidence = With(AllIsWell(), absl::OkStatus());
    forget(evidence);
    const GpuConfirmation found = ConfirmGpuMemory(evidence);
    EXPECT_EQ(found.verdict, Verdict::kUnknown);
    EXPECT_THAT(found.detail, HasSubstr("incomplete"));
    EXPECT_FALSE(found.wants_trial);
  }
}

TEST(GpuConfirmationTest, A27_AnImporterThatHasNotClosedHoldsIt) {
  GpuEvidence evidence = With(AllIsWell(), absl::OkStatus());
  evidence.importers.push_back({.pid = 201, .state = State::kOpen});
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kStillMapped);
  EXPECT_THAT(found.holders, ElementsAre(201));
  EXPECT_THAT(found.detail, HasSubstr("pid 201 has not closed"));
}

TEST(GpuConfirmationTest, A27_AnImporterOfAnotherPidNamespaceHoldsItWithoutAName) {
  GpuEvidence evidence = AllIsWell();
  evidence.importers = {{.pid = 0, .state = State::kOpen}};
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kStillMapped);
  EXPECT_THAT(found.holders, IsEmpty());
  EXPECT_THAT(found.detail, HasSubstr("another pid namespace"));
}

TEST(GpuConfirmationTest, A27_AnOwnerThatIsListedIsHeldByTheDriver) {
  GpuEvidence evidence = With(AllIsWell(), absl::OkStatus());
  evidence.now.processes->push_back({kOwner, kContext});
  GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kDriverHeld);
  EXPECT_THAT(found.detail, HasSubstr("teardown is under way"));
  // Also where the list leaves others out.
  evidence.baseline.reset();
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kDriverHeld);
}

TEST(GpuConfirmationTest, A27_APidThatIsAnothersByNowIsNotTheOwners) {
  GpuEvidence evidence = AllIsWell();
  evidence.now.processes->push_back({kOwner, kContext});
  evidence.owner_pid_reused = true;
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_TRUE(found.wants_trial);
  EXPECT_THAT(found.detail, HasSubstr("another process's now"));
  EXPECT_EQ(ConfirmGpuMemory(With(evidence, absl::OkStatus())).verdict, Verdict::kFreed);
  // One that has no context is in nobody's way.
  evidence = AllIsWell();
  evidence.owner_pid_reused = true;
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
}

TEST(GpuConfirmationTest, A27_ADeadImporterThatIsListedIsHeldByTheDriver) {
  GpuEvidence evidence = AllIsWell();
  evidence.importers[0].state = State::kEnded;
  GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kDriverHeld);
  EXPECT_THAT(found.detail, HasSubstr("importer (pid 200)"));
  evidence.now.processes = std::vector<GpuSurvey::Process>();
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
}

// Field reports: the memory of a dead exporter is charged to whoever maps it.
TEST(GpuConfirmationTest, A27_AnImporterThatWasRechargedHoldsIt) {
  GpuEvidence evidence = With(AllIsWell(), absl::OkStatus());
  evidence.now.processes = {{kFront, kContext + kArena}};
  for (const State state : {State::kClosed, State::kLeft}) {
    evidence.importers[0].state = state;
    const GpuConfirmation found = ConfirmGpuMemory(evidence);
    EXPECT_EQ(found.verdict, Verdict::kStillMapped);
    EXPECT_THAT(found.holders, ElementsAre(kFront));
    EXPECT_THAT(found.detail, HasSubstr(std::to_string(kArena) + " bytes more"));
  }
}

TEST(GpuConfirmationTest, A27_AnImporterThatMayHaveBeenRechargedIsNotAccountedFor) {
  GpuEvidence evidence = AllIsWell();
  evidence.now.processes = {{kFront, kContext + kArena / 2}};
  GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_THAT(found.detail, HasSubstr("importer pid 200"));
  // Grown by less than that: it is its own.
  evidence.now.processes = {{kFront, kContext + kArena / 2 - 1}};
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
  // Not known before: it depends on what it could be.
  evidence.baseline->processes = {{kOwner, kArena}};
  evidence.now.processes = {{kFront, kArena / 2}};
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kUnknown);
  evidence.now.processes = {{kFront, kArena / 2 - 1}};
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
  evidence.now.processes = {{kFront, std::nullopt}};
  found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_THAT(found.detail, HasSubstr("does not say how much importer pid 200"));
}

// A trial cannot tell whose memory it leaves alone.
TEST(GpuConfirmationTest, A27_AnImporterThatUsesAsMuchIsNotClearedByATrial) {
  GpuEvidence evidence = With(AllIsWell(), absl::OkStatus());
  evidence.baseline.reset();
  evidence.now.processes = {{kFront, kArena / 2}};
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_FALSE(found.wants_trial);
  EXPECT_THAT(found.detail, HasSubstr("pid 200 imported the arena and uses as much"));
  // Where the memory has come back it is its own.
  evidence.baseline = Survey(kFreeBefore, {});
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
}

// Another server on the same GPU loads its own model: no reason to wait for ever.
TEST(GpuConfirmationTest, AStrangerThatGrowsIsInNobodysWay) {
  GpuEvidence evidence = AllIsWell();
  evidence.now = Survey(kNeeded, {{kFront, kContext}, {kStranger, 2 * kArena}});
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
}

TEST(GpuConfirmationTest, A27_TooLittleFreeMemoryIsUnknownAndNamesWhoUsesIt) {
  GpuEvidence evidence = With(AllIsWell(), absl::OkStatus());
  evidence.successor = 400;
  evidence.now = Survey(kNeeded - 1, {{kFront, kContext}, {kStranger, 70'000}, {400, 7}});
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_FALSE(found.wants_trial);
  EXPECT_THAT(found.detail, HasSubstr("pid 300 uses 70000 bytes"));
  EXPECT_THAT(found.detail, HasSubstr("the successor (pid 400) uses 7 bytes"));
  const uint64_t unseen = kTotal - (kNeeded - 1) - kContext - 70'000 - 7;
  EXPECT_THAT(found.detail, HasSubstr(std::to_string(unseen) + " bytes are the driver's own"));
  evidence.now = Survey(kNeeded, {{kFront, kContext}});
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
}

TEST(GpuConfirmationTest, A27_EveryReasonNotToTrustTheListHasItsOwnWords) {
  const std::vector<std::pair<void (*)(GpuEvidence&), std::string>> cases = {
      {[](GpuEvidence& e) { e.now.processes = absl::NotFoundError("no NVML"); },
       "process list is not known: no NVML"},
      {[](GpuEvidence& e) { e.now.memory = absl::UnavailableError("it is ~0"); },
       "free memory is not known: it is ~0"},
      {[](GpuEvidence& e) { e.now.mig = absl::InternalError("no answer"); },
       "MIG instances is not known: no answer"},
      {[](GpuEvidence& e) { e.now.mig = true; }, "in MIG mode"},
      {[](GpuEvidence& e) { e.baseline.reset(); }, "never asked while the worker lived"},
      {[](GpuEvidence& e) { e.baseline->processes = absl::DeadlineExceededError("late"); },
       "while the worker lived NVML's process list was not known: late"},
      {[](GpuEvidence& e) {
         e.baseline->processes = {{kFront, kContext}};
       },
       "--pid=host"},
      {[](GpuEvidence& e) { e.importers.push_back({.pid = 0, .state = State::kClosed}); },
       "pid namespace that NVML does not show"},
  };
  for (const auto& [change, words] : cases) {
    GpuEvidence evidence = AllIsWell();
    change(evidence);
    GpuConfirmation found = ConfirmGpuMemory(evidence);
    EXPECT_EQ(found.verdict, Verdict::kUnknown) << words;
    EXPECT_TRUE(found.wants_trial) << words;
    EXPECT_THAT(found.detail, HasSubstr(words));
    // A trial has the last word.
    found = ConfirmGpuMemory(With(evidence, absl::OkStatus()));
    EXPECT_EQ(found.verdict, Verdict::kFreed) << words << ": " << found.detail;
    EXPECT_EQ(found.source, "trial allocation of " + std::to_string(kNeeded) + " bytes");
    found = ConfirmGpuMemory(With(evidence, absl::ResourceExhaustedError("out of memory")));
    EXPECT_EQ(found.verdict, Verdict::kUnknown);
    EXPECT_FALSE(found.wants_trial);
    EXPECT_THAT(found.detail, HasSubstr(words));
    EXPECT_THAT(found.detail, HasSubstr("failed: out of memory"));
    found = ConfirmGpuMemory(With(evidence, absl::OkStatus(), kNeeded - 1));
    EXPECT_EQ(found.verdict, Verdict::kUnknown);
    EXPECT_THAT(found.detail, HasSubstr("says nothing about"));
  }
}

// On a GPU with room a trial succeeds whether the arena is gone or not.
TEST(GpuConfirmationTest, A27_ATrialProvesNothingWhereTheMemoryHasNotComeBack) {
  GpuEvidence evidence = With(WithoutAList(), absl::OkStatus());
  const uint64_t room = 40'000 * kMiB;
  evidence.baseline->memory = GpuSurvey::Memory{kTotal, room};
  evidence.now.memory = GpuSurvey::Memory{kTotal, room + kContext};
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_FALSE(found.wants_trial);
  EXPECT_THAT(found.detail, HasSubstr("have not come back"));
  evidence.now.memory = GpuSurvey::Memory{kTotal, room + kArena / 2};
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
  // In MIG mode the numbers are the whole GPU's.
  evidence.now = Survey(room, {});
  evidence.now.mig = true;
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
}

TEST(GpuConfirmationTest, A27_NoTrialIsMadeWhereItWouldFail) {
  GpuEvidence evidence = WithoutAList();
  evidence.now.memory = GpuSurvey::Memory{kTotal, kNeeded - 1};
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_FALSE(found.wants_trial);
  EXPECT_THAT(found.detail, HasSubstr("only"));
}

TEST(GpuConfirmationTest, A27_WithoutAListAnImporterThatHungUpIsUnknown) {
  GpuEvidence evidence = With(WithoutAList(), absl::OkStatus());
  evidence.importers[0].state = State::kLeft;
  const GpuConfirmation found = ConfirmGpuMemory(evidence);
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_THAT(found.detail, HasSubstr("pid 200 has hung up"));
  // With one its use tells.
  evidence = AllIsWell();
  evidence.importers[0].state = State::kLeft;
  EXPECT_EQ(ConfirmGpuMemory(evidence).verdict, Verdict::kFreed);
}

}  // namespace
}  // namespace baton::ipc::cuda

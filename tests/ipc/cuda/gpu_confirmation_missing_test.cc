// Every combination of what may be missing from a GpuEvidence: none of them is
// freed, unless what is left proves it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ipc/cuda/gpu_confirmation.h"
#include "tests/ipc/cuda/gpu_evidence.h"

namespace baton::ipc::cuda {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;
using State = GpuImporter::State;
using Verdict = GpuConfirmation::Verdict;

struct Case {
  GpuEvidence evidence;
  bool proven_by_list = true;  // nothing of what the list needs is missing
  bool proven_by_trial = true;
  bool charged = false;     // the importer uses as much as the arena more than it did
  bool too_little = false;  // is free on the whole GPU
  std::string name;
};
struct Option {
  std::string name;
  void (*apply)(Case&);
};
using Dimension = std::vector<Option>;

void NotByList(Case& c) { c.proven_by_list = false; }
void NotAtAll(Case& c) { c.proven_by_list = c.proven_by_trial = false; }

const std::vector<Dimension>& Dimensions() {
  static const std::vector<Dimension> all = {
      // First of all: what is not in a list that nobody has cannot speak against it.
      {{"list", [](Case&) {}},
       {"no-list",
        [](Case& c) {
          c.evidence.now.processes = absl::UnknownError("?");
          NotByList(c);
        }}},
      {{"owner-gone", [](Case&) {}},
       {"owner-listed",
        [](Case& c) {
          if (!c.evidence.now.processes.ok()) return;
          c.evidence.now.processes->push_back({kOwner, 1});
          NotAtAll(c);
        }},
       {"pid-reused",
        [](Case& c) {
          c.evidence.owner_pid_reused = true;
          if (!c.evidence.now.processes.ok()) return;
          c.evidence.now.processes->push_back({kOwner, 1});
          NotByList(c);
        }},
       {"no-owner",
        [](Case& c) {
          c.evidence.owner = 0;
          NotAtAll(c);
        }}},
      {{"sizes", [](Case&) {}},
       {"no-arena-bytes",
        [](Case& c) {
          c.evidence.arena_bytes = 0;
          NotAtAll(c);
        }},
       {"no-needed-bytes",
        [](Case& c) {
          c.evidence.needed_bytes = 0;
          NotAtAll(c);
        }}},
      {{"importer-closed", [](Case&) {}},
       {"importer-open",
        [](Case& c) {
          c.evidence.importers[0].state = State::kOpen;
          NotAtAll(c);
        }},
       {"importer-left",
        [](Case& c) {
          c.evidence.importers[0].state = State::kLeft;
          c.proven_by_trial = false;
        }},
       {"importer-charged",
        [](Case& c) {
          if (!c.evidence.now.processes.ok()) return;
          c.evidence.now.processes->at(0).bytes = kContext + kArena;
          c.charged = true;
        }},
       {"importer-use-unknown",
        [](Case& c) {
          if (!c.evidence.now.processes.ok()) return;
          c.evidence.now.processes->at(0).bytes.reset();
          NotByList(c);
        }},
       {"importer-ended-and-listed",
        [](Case& c) {
          c.evidence.importers[0].state = State::kEnded;
          if (c.evidence.now.processes.ok()) NotAtAll(c);
        }},
       {"importer-unseen",
        [](Case& c) {
          c.evidence.importers[0].pid = 0;
          NotByList(c);
        }}},
      {{"baseline", [](Case&) {}},
       {"no-baseline",
        [](Case& c) {
          c.evidence.baseline.reset();
          NotByList(c);
        }},
       {"baseline-without-owner",
        [](Case& c) {
          c.evidence.baseline->processes->erase(c.evidence.baseline->processes->begin());
          NotByList(c);
        }},
       {"baseline-without-list",
        [](Case& c) {
          c.evidence.baseline->processes = absl::UnknownError("?");
          NotByList(c);
        }},
       {"baseline-without-memory",
        [](Case& c) { c.evidence.baseline->memory = absl::UnknownError("?"); }}},
      {{"enough", [](Case&) {}},
       {"too-little",
        [](Case& c) {
          c.evidence.now.memory->free_bytes = kNeeded - 1;
          c.too_little = true;
        }},
       {"memory-unknown",
        [](Case& c) {
          c.evidence.now.memory = absl::UnknownError("?");
          NotByList(c);
        }}},
      {{"no-mig", [](Case&) {}},
       {"mig",
        [](Case& c) {
          c.evidence.now.mig = true;
          NotByList(c);
        }},
       {"mig-unknown",
        [](Case& c) {
          c.evidence.now.mig = absl::UnknownError("?");
          NotByList(c);
        }}},
      {{"trial", [](Case& c) { c.evidence = With(c.evidence, absl::OkStatus()); }},
       {"no-trial", [](Case& c) { c.proven_by_trial = false; }},
       {"trial-failed",
        [](Case& c) {
          c.evidence = With(c.evidence, absl::ResourceExhaustedError("full"));
          c.proven_by_trial = false;
        }},
       {"short-trial",
        [](Case& c) {
          c.evidence = With(c.evidence, absl::OkStatus(), kNeeded - 1);
          c.proven_by_trial = false;
        }}},
  };
  return all;
}

// What depends on more than one of them.
void Conclude(Case& c) {
  const GpuEvidence& e = c.evidence;
  const bool whole = e.now.mig.ok() && !*e.now.mig;
  if (c.too_little) {
    NotByList(c);
    if (whole) NotAtAll(c);
  }
  if (!c.charged) return;
  NotByList(c);
  const bool use_before = e.baseline && e.baseline->processes.ok();
  const bool risen = e.baseline && e.baseline->memory.ok() && e.now.memory.ok() && whole;
  if (use_before || !risen) NotAtAll(c);
}

template <typename Check>
void ForEachCase(const Check& check) {
  std::vector<size_t> at(Dimensions().size(), 0);
  for (;;) {
    Case c{.evidence = AllIsWell(), .name = ""};
    for (size_t i = 0; i < at.size(); ++i) {
      const Option& option = Dimensions()[i][at[i]];
      option.apply(c);
      c.name += option.name + " ";
    }
    Conclude(c);
    check(c);
    size_t i = 0;
    while (i < at.size() && ++at[i] == Dimensions()[i].size()) at[i++] = 0;
    if (i == at.size()) return;
  }
}

TEST(GpuConfirmationMissingTest, A27_NoCombinationWithSomethingMissingIsFreed) {
  int freed = 0;
  int cases = 0;
  ForEachCase([&](const Case& c) {
    SCOPED_TRACE(c.name);
    ++cases;
    const GpuConfirmation found = ConfirmGpuMemory(c.evidence);
    if (found.verdict == Verdict::kFreed) {
      ++freed;
      ASSERT_TRUE(c.proven_by_list || c.proven_by_trial);
      ASSERT_THAT(found.source, Not(IsEmpty()));
      ASSERT_THAT(found.detail, IsEmpty());
    } else {
      ASSERT_THAT(found.detail, Not(IsEmpty()));
    }
    // And the list's word is not ignored.
    if (c.proven_by_list || c.proven_by_trial) {
      ASSERT_EQ(found.verdict, Verdict::kFreed) << found.detail;
    }
    ASSERT_FALSE(found.wants_trial &&
                 (found.verdict != Verdict::kUnknown || c.evidence.trial.has_value()));
  });
  EXPECT_EQ(cases, 4 * 3 * 7 * 5 * 3 * 3 * 2 * 4);
  EXPECT_GT(freed, 0);
  EXPECT_LT(freed, cases / 10);
}

// What takes something away from what is known never turns anything into freed.
TEST(GpuConfirmationMissingTest, A27_KnowingLessIsNeverFreedWithoutATrial) {
  ForEachCase([&](const Case& c) {
    if (ConfirmGpuMemory(c.evidence).verdict == Verdict::kFreed) return;
    SCOPED_TRACE(c.name);
    GpuEvidence less = c.evidence;
    less.trial.reset();
    ASSERT_NE(ConfirmGpuMemory(less).verdict, Verdict::kFreed);
    less.baseline.reset();
    ASSERT_NE(ConfirmGpuMemory(less).verdict, Verdict::kFreed);
    less.now = UnknownSurvey(absl::UnknownError("?"));
    ASSERT_NE(ConfirmGpuMemory(less).verdict, Verdict::kFreed);
  });
}

}  // namespace
}  // namespace baton::ipc::cuda

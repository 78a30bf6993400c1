#include "ipc/spin_budget.h"

#include <sched.h>

#include <thread>

#include "gtest/gtest.h"

namespace baton::ipc {
namespace {

constexpr int64_t kMax = 50'000;

TEST(SpinBudgetTest, StartsWithAllOfIt) { EXPECT_EQ(SpinBudget(kMax).budget_ns(), kMax); }

TEST(SpinBudgetTest, ZeroNeverSpins) {
  SpinBudget budget(0);
  for (int i = 0; i < 100; ++i) budget.Observe(10, false);
  EXPECT_EQ(budget.budget_ns(), 0);
}

TEST(SpinBudgetTest, ShortWaitsNeedLittle) {
  SpinBudget budget(kMax);
  for (int i = 0; i < 100; ++i) budget.Observe(5'000, false);
  EXPECT_GE(budget.budget_ns(), 5'000);
  EXPECT_LT(budget.budget_ns(), kMax);
}

TEST(SpinBudgetTest, LongWaitsAreSleptThrough) {
  SpinBudget budget(kMax);
  for (int i = 0; i < 100; ++i) budget.Observe(10'000'000, true);
  EXPECT_EQ(budget.budget_ns(), 0);
}

TEST(SpinBudgetTest, LearnsWhileAsleepThatSpinningPays) {
  SpinBudget budget(kMax);
  for (int i = 0; i < 100; ++i) budget.Observe(10'000'000, true);
  // Both sides asleep: each wait is the other's wake-up and one's own.
  for (int i = 0; i < 100; ++i) budget.Observe(kMax + 30'000, true);
  EXPECT_GT(budget.budget_ns(), 30'000);
}

TEST(SpinBudgetTest, OneLongWaitDoesNotEndIt) {
  SpinBudget budget(kMax);
  for (int i = 0; i < 100; ++i) budget.Observe(2'000, false);
  budget.Observe(1'000'000'000, true);
  EXPECT_GT(budget.budget_ns(), 0);
}

TEST(SpinBudgetTest, NoSpinningOnOneCpu) {
  std::thread([] {
    cpu_set_t all;
    ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    int first = 0;
    while (!CPU_ISSET(first, &all)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_EQ(SpinBudget::ForThisThread(kMax).budget_ns(), 0);
  }).join();
}

TEST(SpinUntilTest, LooksOnceWithoutABudget) {
  int looks = 0;
  const SpinOutcome outcome = SpinUntil([&] { return ++looks < 0; }, MonotonicNs(), 0);
  EXPECT_FALSE(outcome.came);
  EXPECT_GE(looks, 1);
  EXPECT_LE(looks, 8);
}

TEST(SpinUntilTest, GivesUpAfterTheBudget) {
  const int64_t start = MonotonicNs();
  const SpinOutcome outcome = SpinUntil([] { return false; }, start, 1'000'000);
  EXPECT_FALSE(outcome.came);
  EXPECT_GE(outcome.waited_ns, 1'000'000);
  EXPECT_GE(MonotonicNs() - start, 1'000'000);
}

TEST(SpinUntilTest, SeesWhatComes) {
  int looks = 0;
  const SpinOutcome outcome =
      SpinUntil([&] { return ++looks == 1000; }, MonotonicNs(), int64_t{3600} * 1'000'000'000);
  EXPECT_TRUE(outcome.came);
  EXPECT_EQ(looks, 1000);
}

}  // namespace
}  // namespace baton::ipc

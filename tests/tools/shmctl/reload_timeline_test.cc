// Who served when, as a receipt's states and its gap say.
#include "tools/shmctl/reload_timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/tools/shmctl/test_receipt.h"

namespace baton::shmctl {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TestReceipt;

std::vector<std::string> Unserved(TestReceipt& receipt) {
  std::vector<std::string> states;
  for (const ReloadTimeline::Span& span : TimelineOf(receipt.reader()).spans) {
    if (!span.served) states.push_back(span.state);
  }
  return states;
}

TEST(ReloadTimelineTest, OffsetsAddUpAndTheEndIsNoState) {
  TestReceipt receipt("swapped", {{"STAGING", 10}, {"HOLDING", 2}, {"CLOSING", 3}, {"SERVING", 9}});
  (*receipt).setGapNs(5'000);
  const ReloadTimeline timeline = TimelineOf(receipt.reader());
  ASSERT_EQ(timeline.spans.size(), 3u);
  EXPECT_EQ(timeline.spans[2].start_ns, 12'000u);
  EXPECT_EQ(timeline.total_ns, 15'000u);
  EXPECT_EQ(timeline.gap_start_ns, 10'000u);
  EXPECT_EQ(timeline.gap_end_ns, 15'000u);
}

TEST(ReloadTimelineTest, NoSumWraps) {
  TestReceipt receipt("swapped", {{"STAGING", 1}, {"HOLDING", 1}, {"CLOSING", 1}});
  for (const uint32_t i : {0u, 1u}) (*receipt).getStates()[i].setNs(UINT64_MAX - 5);
  const ReloadTimeline timeline = TimelineOf(receipt.reader());
  EXPECT_EQ(timeline.total_ns, UINT64_MAX);
  uint64_t start_ns = 0;
  for (const ReloadTimeline::Span& span : timeline.spans) {
    EXPECT_EQ(span.start_ns, start_ns);
    EXPECT_LE(span.ns, UINT64_MAX - start_ns);
    start_ns += span.ns;
  }
}

// A gap is measured to the last state's end but for what it takes to get there.
TEST(ReloadTimelineTest, ExclusiveIsServedInStagingOnly) {
  TestReceipt receipt("swapped",
                      {{"STAGING", 10}, {"HOLDING", 2}, {"CLOSING", 3}, {"REMAPPING", 1}});
  (*receipt).setGapNs(4'000);
  EXPECT_THAT(Unserved(receipt), ElementsAre("HOLDING", "CLOSING", "REMAPPING"));
}

TEST(ReloadTimelineTest, OverlapIsServedUntilItHoldsAndAsSoonAsItHasDrained) {
  TestReceipt receipt("swapped", {{"STAGING", 10},
                                  {"ADMITTING", 10},
                                  {"REMAPPING", 1},
                                  {"HOLDING", 1},
                                  {"DRAINING", 4},
                                  {"CLOSING", 3},
                                  {"EXITING", 30}});
  (*receipt).setStrategy("overlap");
  (*receipt).setGapNs(5'500);
  EXPECT_THAT(Unserved(receipt), ElementsAre("HOLDING", "DRAINING"));
  // A state so short that its end is nearest by chance.
  TestReceipt near("swapped", {{"HOLDING", 20}, {"DRAINING", 980}, {"CLOSING", 5}, {"EXITING", 9}});
  (*near).setStrategy("overlap");
  (*near).setGapNs(1'004'000);
  EXPECT_THAT(Unserved(near), ElementsAre("HOLDING", "DRAINING"));
}

// The one that served died while its successor was brought up beside it.
TEST(ReloadTimelineTest, OverlapWhoseOldWorkerDies) {
  TestReceipt receipt("swapped", {{"STAGING", 10},
                                  {"ADMITTING", 10},
                                  {"CLOSING", 1},
                                  {"EXITING", 2},
                                  {"CONFIRMING", 5},
                                  {"ADMITTING", 10},
                                  {"REMAPPING", 1}});
  (*receipt).setStrategy("overlap");
  (*receipt).setGapNs(19'000);
  EXPECT_THAT(Unserved(receipt),
              ElementsAre("CLOSING", "EXITING", "CONFIRMING", "ADMITTING", "REMAPPING"));
}

TEST(ReloadTimelineTest, WithoutAGapSomebodyServed) {
  TestReceipt overlap("kept-old", {{"STAGING", 10}, {"ADMITTING", 10}, {"CLOSING", 1}});
  (*overlap).setStrategy("overlap");
  EXPECT_THAT(Unserved(overlap), IsEmpty());
  TestReceipt kept("kept-old", {{"STAGING", 10}});
  EXPECT_THAT(Unserved(kept), IsEmpty());
  TestReceipt failed("failed", {});
  EXPECT_THAT(Unserved(failed), IsEmpty());
}

// Stopping while a reload stages: it is served until the hold, never after.
TEST(ReloadTimelineTest, StoppedLastsToTheEnd) {
  TestReceipt receipt("stopped", {{"STAGING", 10}, {"HOLDING", 1}, {"EXITING", 1}, {"STOPPED", 1}});
  EXPECT_THAT(Unserved(receipt), ElementsAre("HOLDING", "EXITING"));
}

}  // namespace
}  // namespace baton::shmctl

// Lanes as they are drawn, at three widths.
#include "tools/shmctl/timeline_drawing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"

#include "tests/tools/shmctl/test_receipt.h"
#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::TestReceipt;

std::string Draw(TestReceipt& receipt, size_t width) {
  return DrawTimeline({receipt.reader()}, {.width = width});
}

// The widest states of all: 300 ms beside 3 us.
TestReceipt Swapped() {
  TestReceipt receipt("swapped", {{"STAGING", 300'000},
                                  {"HOLDING", 66},
                                  {"DRAINING", 1'500},
                                  {"CLOSING", 3},
                                  {"EXITING", 4'250},
                                  {"CONFIRMING", 200},
                                  {"ADMITTING", 8'310},
                                  {"REMAPPING", 35},
                                  {"SERVING", 3}});
  (*receipt).setGapNs(14'364'000);
  return receipt;
}

TEST(TimelineDrawingTest, Sixty) {
  TestReceipt receipt = Swapped();
  EXPECT_EQ(Draw(receipt, 60), R"(1 -> 2  command, exclusive: swapped, verdict freed, gap
        14.4 ms
  started       2026-05-01 12:00:01.250, 314 ms
  STAGING        300 ms  ----------------------------
  HOLDING       66.0 us                              #
  DRAINING      1.50 ms                               #
  CLOSING       3.00 us                                #
  EXITING       4.25 ms                                 #
  CONFIRMING     200 us                                  #
  ADMITTING     8.31 ms                                   #
  REMAPPING     35.0 us                                    #
  nobody served 14.4 ms                              ^^^^^^^

- somebody serves  # nobody serves
)");
}

TEST(TimelineDrawingTest, Eighty) {
  TestReceipt receipt = Swapped();
  EXPECT_EQ(Draw(receipt, 80), R"(1 -> 2  command, exclusive: swapped, verdict freed, gap 14.4 ms
  started       2026-05-01 12:00:01.250, 314 ms
  STAGING        300 ms  ------------------------------------------------
  HOLDING       66.0 us                                                  #
  DRAINING      1.50 ms                                                   #
  CLOSING       3.00 us                                                    #
  EXITING       4.25 ms                                                     #
  CONFIRMING     200 us                                                      #
  ADMITTING     8.31 ms                                                       #
  REMAPPING     35.0 us                                                        #
  nobody served 14.4 ms                                                  ^^^^^^^

- somebody serves  # nobody serves
)");
}

TEST(TimelineDrawingTest, HundredAndTwenty) {
  TestReceipt receipt = Swapped();
  EXPECT_EQ(Draw(receipt, 120), R"(1 -> 2  command, exclusive: swapped, verdict freed, gap 14.4 ms
  started       2026-05-01 12:00:01.250, 314 ms
  STAGING        300 ms  --------------------------------------------------------------------------------------
  HOLDING       66.0 us                                                                                        #
  DRAINING      1.50 ms                                                                                         #
  CLOSING       3.00 us                                                                                          #
  EXITING       4.25 ms                                                                                           ##
  CONFIRMING     200 us                                                                                             #
  ADMITTING     8.31 ms                                                                                              ##
  REMAPPING     35.0 us                                                                                                #
  nobody served 14.4 ms                                                                                        ^^^^^^^^^

- somebody serves  # nobody serves
)");
}

// The successor comes up while the one before serves; nobody serves in between only, and the one
// before leaves while the successor serves.
TEST(TimelineDrawingTest, Overlap) {
  TestReceipt receipt("swapped", {{"STAGING", 200'000},
                                  {"ADMITTING", 40'000},
                                  {"REMAPPING", 100},
                                  {"HOLDING", 20},
                                  {"DRAINING", 980},
                                  {"CLOSING", 5},
                                  {"EXITING", 50'000},
                                  {"CONFIRMING", 1'000}});
  (*receipt).setStrategy("overlap");
  (*receipt).setGapNs(1'004'000);
  EXPECT_EQ(Draw(receipt, 80), R"(1 -> 2  command, overlap: swapped, verdict freed, gap 1.00 ms
  started       2026-05-01 12:00:01.250, 292 ms
  STAGING        200 ms  ----------------------------------
  ADMITTING     40.0 ms                                    -------
  REMAPPING      100 us                                           -
  HOLDING       20.0 us                                            #
  DRAINING       980 us                                             #
  CLOSING       5.00 us                                              -
  EXITING       50.0 ms                                               ---------
  CONFIRMING    1.00 ms                                                        -
  nobody served 1.00 ms                                            ^^

- somebody serves  # nobody serves
)");
}

// A successor that failed after it was admitted beside the one that serves on: no gap.
TEST(TimelineDrawingTest, OverlapThatFails) {
  TestReceipt receipt("kept-old", {{"STAGING", 100'000},
                                   {"ADMITTING", 20'000},
                                   {"CLOSING", 5},
                                   {"EXITING", 10'000},
                                   {"CONFIRMING", 1'000}});
  (*receipt).setStrategy("overlap");
  (*receipt).setReason("worker 2 was killed by signal 11 while it uploaded");
  EXPECT_EQ(Draw(receipt, 80), R"(1 -> 1  command, overlap: kept-old, verdict freed, no gap
  started       2026-05-01 12:00:01.250, 131 ms
  reason        worker 2 was killed by signal 11 while it uploaded
  STAGING        100 ms  -----------------------------------------
  ADMITTING     20.0 ms                                           --------
  CLOSING       5.00 us                                                   -
  EXITING       10.0 ms                                                    ----
  CONFIRMING    1.00 ms                                                        -

- somebody serves  # nobody serves
)");
}

// A drain in vain: the one before serves again, after a gap.
TEST(TimelineDrawingTest, KeptOld) {
  TestReceipt receipt("kept-old", {{"STAGING", 50'000}, {"HOLDING", 20}, {"DRAINING", 30'000'000}});
  (*receipt).setVerdict("none");
  (*receipt).setGapNs(30'000'020'000);
  (*receipt).setReason(
      "drain_timeout: pid 4711 leases 3 blocks of device memory on channel 2 and did not return "
      "them");
  EXPECT_EQ(Draw(receipt, 80), R"(1 -> 1  command, exclusive: kept-old, verdict none, gap 30.0 s
  started       2026-05-01 12:00:01.250, 30.1 s
  reason        drain_timeout: pid 4711 leases 3 blocks of device memory on
                channel 2 and did not return them
  STAGING       50.0 ms  -
  HOLDING       20.0 us   #
  DRAINING       30.0 s    #####################################################
  nobody served  30.0 s   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

- somebody serves  # nobody serves
)");
  TestReceipt early("kept-old", {{"STAGING", 50'000}});
  EXPECT_THAT(Draw(early, 80), HasSubstr("kept-old, verdict freed, no gap\n"));
  EXPECT_THAT(Draw(early, 80), Not(HasSubstr("nobody served")));
}

// A stopped server has no successor: nobody serves from then on.
TEST(TimelineDrawingTest, Stopped) {
  TestReceipt receipt("stopped", {{"HOLDING", 15},
                                  {"DRAINING", 700},
                                  {"CLOSING", 2},
                                  {"EXITING", 1'500},
                                  {"CONFIRMING", 1'100},
                                  {"STOPPED", 5}});
  (*receipt).setTrigger("stop");
  EXPECT_EQ(Draw(receipt, 80), R"(1 -> none  stop, exclusive: stopped, verdict freed
  started       2026-05-01 12:00:01.250, 3.32 ms
  HOLDING       15.0 us  #
  DRAINING       700 us   ###########
  CLOSING       2.00 us              #
  EXITING       1.50 ms               ########################
  CONFIRMING    1.10 ms                                       ##################
  nobody served 3.32 ms  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

- somebody serves  # nobody serves
)");
}

// Its states are its reload's, which has a receipt of its own.
TEST(TimelineDrawingTest, Failed) {
  TestReceipt receipt("failed", {});
  (*receipt).setReason("upload fails as asked");
  (*receipt).setOverridden(true);
  (*receipt).setVerdict("pinned-by 4711");
  EXPECT_EQ(Draw(receipt, 80),
            R"(1 -> none  command, exclusive: failed, verdict pinned-by 4711 (overridden)
  started       2026-05-01 12:00:01.250; no states of its own: it was a try
                within the reload after it
  reason        upload fails as asked

- somebody serves  # nobody serves
)");
}

TEST(TimelineDrawingTest, SeveralAreLanesOfTheirOwn) {
  TestReceipt one = Swapped();
  TestReceipt two = Swapped();
  (*two).setGeneration(2);
  (*two).setSuccessor(3);
  const std::string both = DrawTimeline({one.reader(), two.reader()}, {.width = 80});
  EXPECT_THAT(both, HasSubstr("\n\n2 -> 3  command"));
  EXPECT_LT(both.find("1 -> 2"), both.find("2 -> 3"));
}

bool EndsWithBar(const std::string& line) {
  return !line.empty() && (line.back() == '#' || line.back() == '-');
}

// More states than there are cells, the most that a receipt has, and times of nothing at all.
TEST(TimelineDrawingTest, AlwaysWithinTheWidthAndNeverInvisible) {
  std::vector<std::pair<std::string, uint64_t>> states;
  for (int i = 0; i < 64; ++i) {
    states.emplace_back(i % 2 == 0 ? "ADMITTING" : "UNAVAILABLE",
                        i % 5 == 0 ? 0 : 1'000u << i % 20);
  }
  TestReceipt many("swapped", states);
  (*many).setGapNs(1);
  TestReceipt nothing("swapped", {{"STAGING", 0}, {"HOLDING", 0}});
  (*nothing).setGapNs(1);
  TestReceipt swapped = Swapped();
  for (TestReceipt* receipt : {&many, &nothing, &swapped}) {
    for (const size_t width : {40, 41, 60, 79, 80, 120, 400}) {
      const std::vector<std::string> lines = absl::StrSplit(Draw(*receipt, width), '\n');
      size_t bars = 0;
      for (const std::string& line : lines) {
        EXPECT_LE(TextCells(line), width) << line;
        bars += EndsWithBar(line) ? 1 : 0;
      }
      const size_t states = receipt->reader().getStates().size();
      EXPECT_EQ(bars, receipt == &swapped ? states - 1 : states) << width;
    }
  }
}

// Numbers that only somebody else can have written make no bar longer than its line.
TEST(TimelineDrawingTest, SumsThatWouldWrapAreDrawn) {
  TestReceipt huge("swapped", {{"STAGING", 0}, {"HOLDING", 0}, {"CLOSING", 1}});
  for (const uint32_t i : {0u, 1u}) (*huge).getStates()[i].setNs(UINT64_MAX - 5);
  const std::vector<std::string> lines = absl::StrSplit(Draw(huge, 80), '\n');
  for (const std::string& line : lines) {
    EXPECT_LE(std::count(line.begin(), line.end(), '-') + std::count(line.begin(), line.end(), '#'),
              80)
        << line;
  }
}

// Colours change nothing but the colours; without them nothing is left to tell a terminal.
TEST(TimelineDrawingTest, ColoursAndCharacters) {
  TestReceipt receipt = Swapped();
  const std::string plain = Draw(receipt, 80);
  EXPECT_THAT(plain, Not(HasSubstr("\033")));
  EXPECT_TRUE(std::all_of(plain.begin(), plain.end(), [](char c) { return c > 0; }));
  std::string coloured = DrawTimeline({receipt.reader()}, {.width = 80, .colours = true});
  EXPECT_THAT(coloured, HasSubstr("\033[31m#\033[0m"));
  for (const std::string code : {"\033[0m", "\033[1m", "\033[31m", "\033[32m"}) {
    for (size_t at; (at = coloured.find(code)) != std::string::npos;) {
      coloured.erase(at, code.size());
    }
  }
  EXPECT_EQ(coloured, plain);
  const std::string utf8 = DrawTimeline({receipt.reader()}, {.width = 80, .utf8 = true});
  EXPECT_EQ(TextCells(utf8), TextCells(plain));
  EXPECT_THAT(utf8, HasSubstr("\u2588"));
}

}  // namespace
}  // namespace baton::shmctl

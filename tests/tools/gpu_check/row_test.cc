#include "tools/gpu_check/row.h"

#include <gtest/gtest.h>

#include <vector>

namespace baton::gpu_check {
namespace {

TEST(RowTest, EveryFieldSurvivesTheLine) {
  const std::vector<Row> rows = {
      {.name = "bare"},
      {.name = "all",
       .value = 0.1 + 0.2,
       .unit = "GB/s",
       .target = Target{.bound = 0.8, .at_most = false},
       .outcome = Outcome::kMissed,
       .note = "tab\there, line\nend, backslash \\t and \\"},
      {.name = "zero", .value = 0.0, .target = Target{.bound = -1.5e-9}, .outcome = Outcome::kMet},
      {.name = "large", .value = 150754820096.0, .unit = "bytes"},
  };
  for (const Row& row : rows) {
    const std::string line = RowLine(row);
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    const absl::StatusOr<Row> back = ParseRowLine(line);
    ASSERT_TRUE(back.ok()) << back.status() << line;
    EXPECT_EQ(*back, row) << line;
  }
}

TEST(RowTest, EveryOutcomeSurvivesTheLine) {
  for (const Outcome outcome :
       {Outcome::kMeasured, Outcome::kMet, Outcome::kMissed, Outcome::kAsExpected,
        Outcome::kContradicted, Outcome::kPassed, Outcome::kError, Outcome::kSkipped}) {
    const absl::StatusOr<Row> back = ParseRowLine(RowLine({.name = "x", .outcome = outcome}));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->outcome, outcome);
  }
}

TEST(RowTest, SaysWhatIsWrongWithALine) {
  const auto error = [](std::string_view line) {
    return std::string(ParseRowLine(line).status().message());
  };
  EXPECT_NE(error("").find("1 fields"), std::string::npos);
  EXPECT_NE(error("n\t\t\t\tpassed").find("5 fields"), std::string::npos);
  EXPECT_NE(error("n\t\t\t\tpassed\t\t").find("7 fields"), std::string::npos);
  EXPECT_NE(error("\t\t\t\tpassed\t").find("no name"), std::string::npos);
  EXPECT_NE(error("n\t1x\t\t\tpassed\t").find("no number"), std::string::npos);
  EXPECT_NE(error("n\tnan\t\t\tpassed\t").find("no number"), std::string::npos);
  EXPECT_NE(error("n\t1\t\t= 4\tpassed\t").find("target"), std::string::npos);
  EXPECT_NE(error("n\t1\t\t<= x\tpassed\t").find("target"), std::string::npos);
  EXPECT_NE(error("n\t1\t\t\tgood\t").find("outcome"), std::string::npos);
  EXPECT_EQ(error("n\t1\t\t\tpassed\t"), "");
}

TEST(RowTest, WhatFailedIsNotGood) {
  EXPECT_FALSE(IsGood(Outcome::kMissed));
  EXPECT_FALSE(IsGood(Outcome::kContradicted));
  EXPECT_FALSE(IsGood(Outcome::kError));
  EXPECT_TRUE(IsGood(Outcome::kMeasured));
  EXPECT_TRUE(IsGood(Outcome::kMet));
  EXPECT_TRUE(IsGood(Outcome::kAsExpected));
  EXPECT_TRUE(IsGood(Outcome::kPassed));
  EXPECT_TRUE(IsGood(Outcome::kSkipped));
}

TEST(RowTest, FiguresHaveTheDigitsThatCount) {
  EXPECT_EQ(FigureText(0), "0");
  EXPECT_EQ(FigureText(143771), "143771");
  EXPECT_EQ(FigureText(51.2345), "51.23");
  EXPECT_EQ(FigureText(0.0123456), "0.01235");
  EXPECT_EQ(FigureText(12345.678), "12345.7");
  EXPECT_EQ(TargetText({.bound = 40, .at_most = false}), ">= 40");
  EXPECT_EQ(TargetText({.bound = 2.5}), "<= 2.5");
}

}  // namespace
}  // namespace baton::gpu_check

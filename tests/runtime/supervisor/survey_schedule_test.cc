// Each row of the two tables in survey_schedule.h.
#include "runtime/supervisor/survey_schedule.h"

#include <gtest/gtest.h>

namespace baton::runtime {
namespace {

constexpr int64_t kAnswer = 100;
constexpr int64_t kNow = 10'000;
constexpr int64_t kEnd = kNow + SurveySchedule::kMostFailures * kAnswer;
constexpr uint64_t kSuccessor = 2;
constexpr uint64_t kAnother = 3;

class SurveyScheduleTest : public ::testing::Test {
 protected:
  bool Awaits(uint64_t successor, int64_t now = kNow, bool needed = true) {
    return schedule_.Awaits(successor, needed, kAnswer, now);
  }
  void FailAll() {
    for (int i = 0; i < SurveySchedule::kMostFailures; ++i) schedule_.Failed();
    schedule_.Asked();
  }
  SurveySchedule schedule_;
};

// ---- Asking

TEST_F(SurveyScheduleTest, NothingIsWantedBeforeSomebodyDoes) {
  EXPECT_FALSE(schedule_.wanted());
  schedule_.Asked();
  EXPECT_FALSE(schedule_.wanted());
}

TEST_F(SurveyScheduleTest, OneQuestionAnswersAllWhoWantIt) {
  schedule_.Want();
  EXPECT_TRUE(schedule_.wanted());
  schedule_.Want();
  schedule_.Asked();
  EXPECT_FALSE(schedule_.wanted());
  schedule_.Want();
  EXPECT_TRUE(schedule_.wanted());
}

TEST_F(SurveyScheduleTest, WhoMapsAfterItWasAskedIsNotInTheAnswer) {
  EXPECT_TRUE(schedule_.up_to_date());
  schedule_.Mapped();
  EXPECT_TRUE(schedule_.wanted());
  EXPECT_FALSE(schedule_.up_to_date());
  schedule_.Asked();
  EXPECT_FALSE(schedule_.up_to_date());
  schedule_.Mapped();
  schedule_.Answered();
  EXPECT_FALSE(schedule_.up_to_date());
  EXPECT_TRUE(schedule_.wanted());
  schedule_.Asked();
  schedule_.Answered();
  EXPECT_TRUE(schedule_.up_to_date());
}

TEST_F(SurveyScheduleTest, AReloadThatBeginsWantsIt) {
  schedule_.ReloadBegan();
  EXPECT_TRUE(schedule_.wanted());
}

TEST_F(SurveyScheduleTest, AFailureIsAskedAgainTwice) {
  for (int failure = 1; failure < SurveySchedule::kMostFailures; ++failure) {
    schedule_.Asked();
    schedule_.Failed();
    EXPECT_TRUE(schedule_.wanted()) << failure;
  }
  schedule_.Asked();
  schedule_.Failed();
  EXPECT_FALSE(schedule_.wanted());
  schedule_.Failed();
  EXPECT_FALSE(schedule_.wanted()) << "the fourth";
}

TEST_F(SurveyScheduleTest, TheLastFailureLeavesWhatIsWantedWanted) {
  schedule_.Failed();
  schedule_.Failed();
  schedule_.Want();
  schedule_.Failed();
  EXPECT_TRUE(schedule_.wanted());
}

TEST_F(SurveyScheduleTest, AReloadCountsFailuresAnew) {
  FailAll();
  schedule_.ReloadBegan();
  schedule_.Asked();
  schedule_.Failed();
  EXPECT_TRUE(schedule_.wanted());
}

// ---- Waiting

TEST_F(SurveyScheduleTest, NobodyWaitsForNothing) {
  EXPECT_EQ(schedule_.waiting(), 0u);
  EXPECT_EQ(schedule_.deadline_ns(), 0);
  EXPECT_FALSE(Awaits(kSuccessor, kNow, /*needed=*/false));
  EXPECT_EQ(schedule_.waiting(), 0u);
  // It has not waited yet: what is needed later is waited for.
  EXPECT_TRUE(Awaits(kSuccessor));
}

TEST_F(SurveyScheduleTest, NobodyWaitsForWhatHasFailedTooOften) {
  FailAll();
  EXPECT_FALSE(Awaits(kSuccessor));
  EXPECT_EQ(schedule_.waiting(), 0u);
}

TEST_F(SurveyScheduleTest, ItWaitsForThreeAnswersTimeFromItsFirstQuestion) {
  EXPECT_TRUE(Awaits(kSuccessor));
  EXPECT_EQ(schedule_.waiting(), kSuccessor);
  EXPECT_EQ(schedule_.deadline_ns(), kEnd);
  EXPECT_TRUE(Awaits(kSuccessor, kEnd - 1));
  EXPECT_EQ(schedule_.deadline_ns(), kEnd);
  EXPECT_FALSE(Awaits(kSuccessor, kEnd));
  EXPECT_EQ(schedule_.waiting(), 0u);
  EXPECT_EQ(schedule_.deadline_ns(), 0);
}

TEST_F(SurveyScheduleTest, ItIsReleasedByTheAnswer) {
  EXPECT_TRUE(Awaits(kSuccessor));
  EXPECT_FALSE(Awaits(kSuccessor, kNow + 1, /*needed=*/false));
  EXPECT_EQ(schedule_.waiting(), 0u);
}

TEST_F(SurveyScheduleTest, ItIsReleasedByTheThirdFailure) {
  EXPECT_TRUE(Awaits(kSuccessor));
  schedule_.Failed();
  schedule_.Failed();
  EXPECT_TRUE(Awaits(kSuccessor));
  schedule_.Failed();
  EXPECT_FALSE(Awaits(kSuccessor));
  EXPECT_EQ(schedule_.waiting(), 0u);
}

// Or it would be waited for again and again where there is no helper that could ask.
TEST_F(SurveyScheduleTest, ItWaitsOnce) {
  EXPECT_TRUE(Awaits(kSuccessor));
  EXPECT_FALSE(Awaits(kSuccessor, kEnd));
  EXPECT_FALSE(Awaits(kSuccessor, kEnd));
  EXPECT_EQ(schedule_.waiting(), 0u);
}

TEST_F(SurveyScheduleTest, OneThatIsGoneDoesNotWait) {
  EXPECT_TRUE(Awaits(kSuccessor));
  schedule_.Gone();
  EXPECT_EQ(schedule_.waiting(), 0u);
  EXPECT_EQ(schedule_.deadline_ns(), 0);
}

TEST_F(SurveyScheduleTest, AnotherSuccessorWaitsForItself) {
  EXPECT_TRUE(Awaits(kSuccessor));
  EXPECT_TRUE(Awaits(kAnother, kEnd));
  EXPECT_EQ(schedule_.waiting(), kAnother);
  EXPECT_EQ(schedule_.deadline_ns(), kEnd + SurveySchedule::kMostFailures * kAnswer);
}

TEST_F(SurveyScheduleTest, AnotherSuccessorWaitsAfterOneThatWasReleased) {
  EXPECT_TRUE(Awaits(kSuccessor));
  EXPECT_FALSE(Awaits(kSuccessor, kEnd));
  EXPECT_TRUE(Awaits(kAnother, kEnd));
  EXPECT_EQ(schedule_.waiting(), kAnother);
}

TEST_F(SurveyScheduleTest, AnotherSuccessorWithNothingToWaitForEndsTheWait) {
  EXPECT_TRUE(Awaits(kSuccessor));
  EXPECT_FALSE(Awaits(kAnother, kNow, /*needed=*/false));
  EXPECT_EQ(schedule_.waiting(), 0u);
}

TEST_F(SurveyScheduleTest, AReloadThatBeginsEndsTheWait) {
  EXPECT_TRUE(Awaits(kSuccessor));
  schedule_.ReloadBegan();
  EXPECT_EQ(schedule_.waiting(), 0u);
}

TEST_F(SurveyScheduleTest, AReloadThatBeginsForgetsWhoWasReleased) {
  EXPECT_TRUE(Awaits(kSuccessor));
  EXPECT_FALSE(Awaits(kSuccessor, kEnd));
  schedule_.ReloadBegan();
  EXPECT_TRUE(Awaits(kSuccessor, kEnd));
}

}  // namespace
}  // namespace baton::runtime

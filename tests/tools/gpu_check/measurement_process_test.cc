#include "tools/gpu_check/measurement_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "ipc/process.h"
#include "ipc/unique_fd.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/report.h"

namespace baton::gpu_check {
namespace {

constexpr absl::Duration kLong = absl::Minutes(5);

std::vector<Row> RunShell(const std::string& script, absl::Duration limit = kLong) {
  return RunInProcess("/bin/sh", {"-c", script}, "shell", limit);
}

TEST(MeasurementProcessTest, CollectsRows) {
  const std::vector<Row> rows =
      RunShell(R"(printf 'a\t1\tms\t\tmeasured\tn\nb\t\t\t\tas expected\t\n' >&3)");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0], (Row{.name = "a", .value = 1.0, .unit = "ms", .note = "n"}));
  EXPECT_EQ(rows[1].outcome, Outcome::kAsExpected);
}

TEST(MeasurementProcessTest, AFailureIsARowAfterThoseThatHadCome) {
  const std::vector<Row> rows = RunShell(R"(printf 'a\t1\t\t\tmeasured\t\n' >&3; exit 3)");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].name, "a");
  EXPECT_EQ(rows[1].name, "shell");
  EXPECT_EQ(rows[1].outcome, Outcome::kError);
  EXPECT_NE(rows[1].note.find("exited with 3"), std::string::npos) << rows[1].note;
}

TEST(MeasurementProcessTest, ACrashIsARow) {
  const std::vector<Row> rows = RunShell("kill -SEGV $$");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].outcome, Outcome::kError);
  EXPECT_NE(rows[0].note.find("signal 11"), std::string::npos) << rows[0].note;
}

TEST(MeasurementProcessTest, ALineThatIsNoRowIsARow) {
  const std::vector<Row> rows = RunShell("echo nonsense >&3");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].outcome, Outcome::kError);
  EXPECT_NE(rows[0].note.find("nonsense"), std::string::npos) << rows[0].note;
}

TEST(MeasurementProcessTest, AProgramThatIsNotThereIsARow) {
  const std::vector<Row> rows = RunInProcess("/no/such/program", {}, "gone", kLong);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].name, "gone");
  EXPECT_EQ(rows[0].outcome, Outcome::kError);
}

// Whether that process has ended; waits for it.
bool Ends(pid_t pid) {
  const absl::Time deadline = absl::Now() + kLong;
  while (absl::Now() < deadline) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    if (!std::getline(stat, text) || text.find(") Z ") != std::string::npos) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return false;
}

TEST(MeasurementProcessTest, WhatHangsIsKilledWithAllThatItStarted) {
  // The grandchild would go on for an hour.
  const std::vector<Row> rows =
      RunShell(R"(sleep 3600 & printf 'pid\t%d\t\t\tmeasured\t\n' $! >&3; wait)", absl::Seconds(1));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_NE(rows[1].note.find("killed"), std::string::npos) << rows[1].note;
  EXPECT_TRUE(Ends(static_cast<pid_t>(*rows[0].value)));
}

TEST(MeasurementProcessTest, WhatOneLeftBehindIsKilled) {
  const std::vector<Row> rows =
      RunShell(R"(sleep 3600 3>&- & printf 'pid\t%d\t\t\tmeasured\t\n' $! >&3)");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_TRUE(Ends(static_cast<pid_t>(*rows[0].value)));
}

class ReportTest : public ::testing::Test {
 protected:
  // The row that `put` has reported.
  template <typename Put>
  static Row Reported(bool simulated, Put put) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const ipc::UniqueFd reading(ends[0]);
    ipc::UniqueFd writing(ends[1]);
    Report report(writing.get(), simulated);
    put(report);
    writing.reset();
    char text[4096];
    const ssize_t count = ::read(reading.get(), text, sizeof(text));
    EXPECT_GT(count, 0);
    const absl::StatusOr<Row> row =
        ParseRowLine(std::string_view(text, count > 0 ? static_cast<size_t>(count) - 1 : 0));
    EXPECT_TRUE(row.ok()) << row.status();
    return row.value_or(Row());
  }
};

TEST_F(ReportTest, HoldsFiguresToTargets) {
  const auto against = [](double value, Target target) {
    return Reported(false, [&](Report& report) { report.Against("x", value, "", target); }).outcome;
  };
  EXPECT_EQ(against(1, {.bound = 1}), Outcome::kMet);
  EXPECT_EQ(against(1.1, {.bound = 1}), Outcome::kMissed);
  EXPECT_EQ(against(1, {.bound = 1, .at_most = false}), Outcome::kMet);
  EXPECT_EQ(against(0.9, {.bound = 1, .at_most = false}), Outcome::kMissed);
}

TEST_F(ReportTest, HoldsASimulatedGpuToNoSpeed) {
  const Row row =
      Reported(true, [](Report& report) { report.Against("x", 5, "ms", {.bound = 1}); });
  EXPECT_EQ(row.outcome, Outcome::kMeasured);
  EXPECT_FALSE(row.target.has_value());
  const auto hardware = [](Report& report) { report.FactOfHardware("x", false); };
  EXPECT_EQ(Reported(true, hardware).outcome, Outcome::kSkipped);
  EXPECT_EQ(Reported(false, hardware).outcome, Outcome::kContradicted);
}

TEST_F(ReportTest, FactsAreAsExpectedOrContradicted) {
  const Row holds = Reported(false, [](Report& report) { report.Fact("x", true, "seen"); });
  EXPECT_EQ(holds.name, "fact: x");
  EXPECT_EQ(holds.outcome, Outcome::kAsExpected);
  EXPECT_EQ(holds.note, "seen");
  EXPECT_EQ(Reported(true, [](Report& report) { report.Fact("x", false); }).outcome,
            Outcome::kContradicted);
}

TEST_F(ReportTest, TimesAreTheMedianWithTheMost) {
  Samples samples;
  for (const double ns : {9e6, 1e6, 2e6}) samples.Add(ns);
  const Row row = Reported(false, [&](Report& report) { report.Times("t", samples, "ms"); });
  EXPECT_EQ(row.value, 2.0);
  EXPECT_NE(row.note.find("most 9 ms"), std::string::npos) << row.note;
  EXPECT_NE(row.note.find("of 3"), std::string::npos) << row.note;
  const Row none = Reported(false, [](Report& report) { report.Times("t", Samples(), "ms"); });
  EXPECT_EQ(none.outcome, Outcome::kError);
}

TEST(MeasurementsTest, NamesAreDifferentAndEveryOneIsBounded) {
  std::set<std::string_view> names;
  for (const Measurement& measurement : Measurements()) {
    EXPECT_TRUE(names.insert(measurement.name).second) << measurement.name;
    EXPECT_EQ(FindMeasurement(measurement.name), &measurement);
    EXPECT_GT(measurement.time_limit, absl::ZeroDuration());
    EXPECT_LT(measurement.time_limit, absl::Minutes(10));
  }
  EXPECT_EQ(FindMeasurement("nonsense"), nullptr);
}

}  // namespace
}  // namespace baton::gpu_check

#include "bench/row_group.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace baton::bench {
namespace {

// Says in a log what is done with it; each operation takes as long as it says.
class Fake final : public Subject {
 public:
  Fake(std::string name, uint64_t ns, std::vector<std::string>* log, int fails_in_slice = -1)
      : name_(std::move(name)), ns_(ns), log_(log), fails_in_slice_(fails_in_slice) {}
  ~Fake() override { log_->push_back("gone " + name_); }
  absl::Status Begin() override {
    log_->push_back("begin " + name_);
    return slice_++ == fails_in_slice_ ? absl::UnavailableError("as asked") : absl::OkStatus();
  }
  absl::Status End() override {
    log_->push_back("end " + name_);
    return absl::OkStatus();
  }
  absl::Status Run(uint64_t, Measured& measured) override {
    measured.latency.Add(ns_);
    measured.operations += 10;
    measured.ticks += static_cast<uint64_t>(1000 * static_cast<double>(ns_) / NsPerTick());
    return absl::OkStatus();
  }

 private:
  const std::string name_;
  const uint64_t ns_;
  std::vector<std::string>* const log_;
  const int fails_in_slice_;
  int slice_ = 0;
};

class RowGroupTest : public ::testing::Test {
 protected:
  Row MakeRow(const std::string& name, uint64_t ns, std::vector<Comparison> comparisons = {},
              int fails_in_slice = -1) {
    return {.name = name,
            .make = [=, this]() -> absl::StatusOr<std::unique_ptr<Subject>> {
              return std::make_unique<Fake>(name, ns, &log_, fails_in_slice);
            },
            .comparisons = std::move(comparisons)};
  }
  std::vector<std::string> log_;
  const RunOptions options_{.seconds_per_row = 0.001, .slices = 2};
};

TEST_F(RowGroupTest, RowsTakeTurns) {
  const auto results =
      MeasureGroup({MakeRow("a", 10), MakeRow("b", 30), MakeRow("c", 5)}, {"a", "b"}, options_);
  EXPECT_EQ(log_, (std::vector<std::string>{"begin a", "end a", "begin b", "end b", "begin a",
                                            "end a", "begin b", "end b", "gone a", "gone b"}));
  // The warm-up of each slice does not count.
  EXPECT_EQ(results.at("a").measured.latency.count(), 2u);
  EXPECT_EQ(results.at("b").measured.operations, 20u);
  EXPECT_FALSE(results.contains("c"));
}

TEST_F(RowGroupTest, ARowIsComparedWithOneThatWasNotAskedFor) {
  const auto results = MeasureGroup(
      {MakeRow("floor", 10),
       MakeRow("a", 40,
               {{.counter = "x_floor", .with = "floor"},
                {.counter = "x_rate", .with = "floor", .of = Comparison::Of::kRate},
                {.counter = "x_own", .with = "floor", .of = Comparison::Of::kOwnRate}})},
      {"a"}, options_);
  EXPECT_EQ(results.at("a").comparisons.at("x_floor"), 4);
  EXPECT_NEAR(results.at("a").comparisons.at("x_rate"), 4, 0.01);
  EXPECT_NEAR(results.at("a").comparisons.at("x_own"), 0.25, 0.01);
  EXPECT_NEAR(results.at("a").PerSecond(), 10 / 40e-6, 0.01 * 10 / 40e-6);
}

TEST_F(RowGroupTest, ARowThatFailsIsLeftOutAndTheOthersGoOn) {
  Row not_made = MakeRow("d", 1);
  not_made.make = []() -> absl::StatusOr<std::unique_ptr<Subject>> {
    return absl::NotFoundError("no such thing");
  };
  const auto results = MeasureGroup(
      {MakeRow("a", 10, {{.counter = "x", .with = "b"}}), MakeRow("b", 30, {}, 1), not_made},
      {"a", "b", "d"}, options_);
  EXPECT_TRUE(results.at("a").status.ok());
  EXPECT_EQ(results.at("a").measured.latency.count(), 2u);
  EXPECT_TRUE(results.at("a").comparisons.empty()) << "it is compared with nothing whole";
  EXPECT_EQ(results.at("b").status, absl::UnavailableError("as asked"));
  EXPECT_EQ(results.at("d").status, absl::NotFoundError("no such thing"));
}

// Five rounds of everything, not all in one order; ratios are the medians of the rounds', latencies
// are all there are.
TEST_F(RowGroupTest, LargeRowsAreStartedAnewInTurns) {
  // What "a" takes is another time in each round.
  int started = 0;
  const uint64_t times[kLargeRounds] = {90, 20, 10, 40, 30};
  Row a = MakeRow("a", 0, {{.counter = "x", .with = "b"}});
  a.large = true;
  a.make = [&]() -> absl::StatusOr<std::unique_ptr<Subject>> {
    return std::make_unique<Fake>("a", times[started++], &log_);
  };
  const auto results =
      MeasureGroup({a, MakeRow("b", 10)}, {"a", "b"}, {.seconds_per_row = 0.001, .slices = 10});
  EXPECT_EQ(started, kLargeRounds);
  ASSERT_EQ(log_.size(), kLargeRounds * 10u);
  std::set<std::string> first;
  for (size_t round = 0; round < kLargeRounds; ++round) {
    first.insert(log_[round * 10]);
    EXPECT_TRUE(log_[round * 10 + 9].starts_with("gone")) << round;
  }
  EXPECT_EQ(log_[0], "begin a");
  EXPECT_EQ(first.size(), 2u);
  EXPECT_EQ(results.at("a").comparisons.at("x"), 3);
  EXPECT_EQ(results.at("a").measured.latency.count(), kLargeRounds * 2u);
  EXPECT_EQ(results.at("b").measured.operations, kLargeRounds * 20u);
}

TEST_F(RowGroupTest, ALargeRowThatFailsInALaterRoundIsComparedWithNothing) {
  int started = 0;
  Row b = MakeRow("b", 30);
  b.make = [&]() -> absl::StatusOr<std::unique_ptr<Subject>> {
    return std::make_unique<Fake>("b", 30, &log_, started++ == 1 ? 0 : -1);
  };
  Row a = MakeRow("a", 10, {{.counter = "x", .with = "b"}});
  a.large = true;
  const auto results = MeasureGroup({a, b}, {"a", "b"}, {.seconds_per_row = 0.001, .slices = 5});
  EXPECT_EQ(started, 2) << "it is left out from then on";
  EXPECT_TRUE(results.at("a").status.ok());
  EXPECT_EQ(results.at("a").measured.latency.count(), kLargeRounds * 1u);
  EXPECT_TRUE(results.at("a").comparisons.empty());
  EXPECT_EQ(results.at("b").status, absl::UnavailableError("as asked"));
}

}  // namespace
}  // namespace baton::bench

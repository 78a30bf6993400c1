// Answers of batches that look like the ones before are given by a shorter way: what makes them
// different, and what comes in between, must not show. Each answer is checked, each time.
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/worker/batching_worker.h"

namespace baton::test {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// x: float32[?, ?] -> first and second, float32[?, ?] both
Signature TwoOutputs() {
  const auto matrix = [](const char* name) {
    return TensorSpec{.name = name, .dtype = DType::kFloat32, .shape = {kDynamicDim, kDynamicDim}};
  };
  return {.inputs = {matrix("x")}, .outputs = {matrix("first"), matrix("second")}};
}

class BatchRepeatTest : public ::testing::Test {
 protected:
  BatchRepeatTest()
      : server_(TwoOutputs()),
        model_([this](std::span<const TensorView> inputs,
                      loader::OutputSink& outputs) { return Run(inputs, outputs); },
               TwoOutputs()),
        one_(Open()),
        two_(Open()),
        worker_(server_, model_, {.max_batch = 8}) {}

  Channel Open() {
    return server_.Open(
        {.ring_entries = 16, .request_arena_bytes = 64 << 10, .response_arena_bytes = 1 << 20});
  }

  // first = x + 1, of `width` columns; second = 2 x, of as many as x has.
  absl::Status Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) {
    const std::span<const float> x = inputs[0].As<float>();
    const int64_t rows = inputs[0].shape[0];
    const int64_t columns = inputs[0].shape[1];
    const int64_t narrow[] = {rows, width_};
    std::span<std::byte> results[2];
    for (const size_t index : order_) {
      const absl::StatusOr<std::span<std::byte>> given =
          outputs.Allocate(index, index == 0 ? std::span<const int64_t>(narrow) : inputs[0].shape);
      if (!given.ok()) return given.status();
      results[index] = *given;
    }
    if (refuses_) return absl::UnavailableError("it is tired");
    auto* const first = reinterpret_cast<float*>(results[0].data());
    auto* const second = reinterpret_cast<float*>(results[1].data());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < width_; ++i) first[row * width_ + i] = x[row * columns] + 1;
    }
    for (size_t i = 0; i < x.size(); ++i) second[i] = 2 * x[i];
    return absl::OkStatus();
  }

  static void Submit(Channel& channel, int64_t rows, int64_t columns, float x,
                     const PlanOptions& options = {}) {
    const TensorSpec spec{.name = "x", .dtype = DType::kFloat32, .shape = {rows, columns}};
    Request request = *channel.NewRequest({&spec, 1}, options);
    for (float& value : request.input<float>(0)) value = x;
    ASSERT_TRUE(channel.Submit(std::move(request)).ok());
  }
  void Check(Channel& channel, int64_t rows, int64_t columns, float x) {
    const std::optional<Outcome> outcome = channel.Poll();
    ASSERT_TRUE(outcome && outcome->response.ok());
    const Response& response = *outcome->response;
    EXPECT_THAT(response.outputs()[0].shape, ElementsAre(rows, width_));
    EXPECT_THAT(response.outputs()[1].shape, ElementsAre(rows, columns));
    EXPECT_THAT(response.output<float>("first"),
                ::testing::AllOf(SizeIs(rows * width_), ::testing::Each(x + 1)));
    EXPECT_THAT(response.output<float>("second"),
                ::testing::AllOf(SizeIs(rows * columns), ::testing::Each(2 * x)));
  }
  // A batch of both channels' requests.
  void Lap(int64_t rows_of_one, int64_t columns = 3) {
    x_ += 10;
    Submit(one_, rows_of_one, columns, x_);
    Submit(two_, 1, columns, x_ + 1);
    const int before = model_.runs();
    while (worker_.Turn()) {
    }
    together_ = model_.runs() - before == 1;
    Check(one_, rows_of_one, columns, x_);
    Check(two_, 1, columns, x_ + 1);
  }

  int64_t width_ = 2;
  std::vector<size_t> order_ = {0, 1};
  bool refuses_ = false;
  float x_ = 0;
  bool together_ = false;
  FakeServer server_;
  FunctionModel model_;
  Channel one_;
  Channel two_;
  BatchingWorker worker_;
};

TEST_F(BatchRepeatTest, TheSameAgainAndAgain) {
  for (int lap = 0; lap < 5; ++lap) Lap(1);
  EXPECT_TRUE(together_);
}

TEST_F(BatchRepeatTest, OtherNumbersOfRows) {
  for (const int64_t rows : {1, 2, 2, 1, 3, 1, 1, 2}) Lap(rows);
  EXPECT_TRUE(together_);
}

TEST_F(BatchRepeatTest, OtherInputs) {
  for (const int64_t columns : {3, 3, 5, 5, 3, 4, 3, 3}) Lap(1, columns);
  EXPECT_TRUE(together_);
}

TEST_F(BatchRepeatTest, OtherOutputsOfTheSameInputs) {
  for (const int64_t width : {2, 2, 7, 7, 2, 1, 1}) {
    width_ = width;
    Lap(1);
  }
  EXPECT_TRUE(together_);
}

TEST_F(BatchRepeatTest, OutputsInAnotherOrder) {
  for (const bool second_first : {false, false, true, true, false, true}) {
    order_ = second_first ? std::vector<size_t>{1, 0} : std::vector<size_t>{0, 1};
    Lap(1);
  }
  EXPECT_TRUE(together_);
}

// The writer of a channel writes alone what comes alone, and that looks different.
TEST_F(BatchRepeatTest, WhatComesAloneInBetween) {
  for (int lap = 0; lap < 4; ++lap) {
    Lap(1);
    Submit(one_, 2, 4, 100);
    EXPECT_TRUE(worker_.Turn());
    Check(one_, 2, 4, 100);
    Submit(two_, 1, 3, 50);
    EXPECT_TRUE(worker_.Turn());
    Check(two_, 1, 3, 50);
  }
}

// What a call that failed had asked for counts for nothing.
TEST_F(BatchRepeatTest, ACallThatFailsInBetween) {
  for (const int64_t width : {2, 5}) {
    Lap(1);
    Lap(1);
    width_ = width;
    order_ = {1, 0};
    refuses_ = true;
    Submit(one_, 1, 3, 1);
    Submit(two_, 1, 3, 1);
    EXPECT_TRUE(worker_.Turn());
    for (Channel* channel : {&one_, &two_}) {
      const std::optional<Outcome> outcome = channel->Poll();
      ASSERT_TRUE(outcome);
      EXPECT_TRUE(absl::IsUnavailable(outcome->response.status())) << outcome->response.status();
    }
    width_ = 2;
    order_ = {0, 1};
    refuses_ = false;
    Lap(1);
    Lap(1);
  }
}

// A block that is too small is told so, also where the one before it was not.
TEST_F(BatchRepeatTest, ABlockThatIsTooSmall) {
  width_ = 300;
  Lap(1);
  Lap(1);
  Submit(one_, 1, 3, 7, {.response_bytes = 128});
  Submit(two_, 1, 3, 8);
  EXPECT_TRUE(worker_.Turn());
  Check(two_, 1, 3, 8);
  // It is asked for again with a block that will do.
  EXPECT_FALSE(one_.Poll());
  EXPECT_TRUE(worker_.Turn());
  Check(one_, 1, 3, 7);
  Lap(1);
}

}  // namespace
}  // namespace baton::test

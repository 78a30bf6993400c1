// Which requests go into a batch, and when it is run. One thread, a clock that only the
// test moves, and waits that are scripts.
#include "runtime/worker/batch_gatherer.h"

#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/allocation_counter.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/worker/batching_worker.h"

namespace baton::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kUs = 1000;
constexpr int64_t kSecond = 1'000'000 * kUs;

// x: float32[?, ?] -> y the same
Signature MatrixSignature() {
  return {
      .inputs = {{.name = "x", .dtype = DType::kFloat32, .shape = {kDynamicDim, kDynamicDim}}},
      .outputs = {{.name = "y", .dtype = DType::kFloat32, .shape = {kDynamicDim, kDynamicDim}}}};
}

class BatchGathererTest : public ::testing::Test {
 protected:
  void Open(size_t channels, const loader::BatchingPolicy& policy) {
    Open(channels, policy, VectorSignature());
  }
  void Open(size_t channels, const loader::BatchingPolicy& policy, const Signature& signature) {
    server_.emplace(signature);
    model_.emplace(signature);
    for (size_t i = 0; i < channels; ++i) {
      channels_.push_back(server_->Open(
          {.ring_entries = 16, .request_arena_bytes = 64 << 10, .response_arena_bytes = 2 << 20}));
    }
    worker_.emplace(*server_, *model_, policy);
  }
  // One row, or `rows`: x, x + 1, ...
  Ticket Submit(size_t channel, float x, size_t rows = 1, const CallOptions& options = {}) {
    return *channels_[channel].Submit(Vector(channels_[channel], rows, x), options);
  }
  void SubmitMatrix(size_t channel, float x, int64_t rows, int64_t columns) {
    const TensorSpec spec{.name = "x", .dtype = DType::kFloat32, .shape = {rows, columns}};
    Request request = *channels_[channel].NewRequest({spec});
    for (float& value : request.input<float>(0)) value = x;
    ASSERT_TRUE(channels_[channel].Submit(std::move(request)).ok());
  }
  // What the channel has been answered: y's elements, or the code of an error.
  std::string Answer(size_t channel) {
    const std::optional<Outcome> outcome = channels_[channel].Poll();
    if (!outcome) return "none";
    if (!outcome->response.ok()) {
      return std::string(absl::StatusCodeToString(outcome->response.status().code()));
    }
    std::string text;
    for (const float y : outcome->response->output<float>("y")) {
      text += (text.empty() ? "" : " ") + std::to_string(static_cast<int>(y));
    }
    return text;
  }
  const ipc::WorkerPage& page() { return server_->worker_page(); }

  std::optional<FakeServer> server_;
  std::optional<DoublingModel> model_;
  std::vector<Channel> channels_;
  std::optional<BatchingWorker> worker_;
};

TEST_F(BatchGathererTest, AFullBatchWaitsForNothing) {
  Open(4, {.max_batch = 4, .max_delay_us = 1000});
  for (size_t i = 0; i < 4; ++i) Submit(i, static_cast<float>(i));
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(0, 1, 2, 3)));
  EXPECT_THAT(worker_->waited_until, IsEmpty());
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(Answer(i), std::to_string(2 * i));
  EXPECT_EQ(page().taken, 4u);
  EXPECT_EQ(page().completed, 4u);
  EXPECT_EQ(page().batches, 1u);
  EXPECT_EQ(page().batch_rows, 4u);
  EXPECT_EQ(page().busy_since_ns, 0);
  EXPECT_FALSE(worker_->Turn());
}

TEST_F(BatchGathererTest, WithoutADelayItIsWhatIsThere) {
  Open(4, {.max_batch = 8});
  Submit(1, 1);
  Submit(3, 3);
  Submit(3, 4);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(1, 3, 4)));
  EXPECT_THAT(worker_->waited_until, IsEmpty());
  Submit(0, 7);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(SizeIs(3), ElementsAre(7)));
  EXPECT_THAT(worker_->waited_until, IsEmpty());
}

TEST_F(BatchGathererTest, AnswersAreRowsOfTheirOwn) {
  Open(3, {.max_batch = 8});
  Submit(0, 1, 2);
  Submit(1, 10, 3);
  Submit(2, 20);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(1, 2, 10, 11, 12, 20)));
  EXPECT_EQ(Answer(0), "2 4");
  EXPECT_EQ(Answer(1), "20 22 24");
  EXPECT_EQ(Answer(2), "40");
}

TEST_F(BatchGathererTest, TheDelayCountsFromTheFirst) {
  Open(3, {.max_batch = 8, .max_delay_us = 100});
  const CallOptions whenever{.timeout = absl::InfiniteDuration()};
  Submit(0, 1, 1, whenever);
  worker_->waits = {[&] {
                      worker_->clock_ns = 40 * kUs;
                      Submit(1, 2, 1, whenever);
                    },
                    [&] {
                      worker_->clock_ns = 60 * kUs;  // for nothing
                    }};
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(worker_->waited_until, ElementsAre(100 * kUs, 100 * kUs, 100 * kUs));
}

TEST_F(BatchGathererTest, WhatFillsItUpEndsTheWait) {
  Open(2, {.max_batch = 2, .max_delay_us = 100});
  const CallOptions whenever{.timeout = absl::InfiniteDuration()};
  Submit(0, 1, 1, whenever);
  worker_->waits = {[&] { Submit(1, 2, 1, whenever); }};
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(worker_->waited_until, SizeIs(1));
  EXPECT_EQ(worker_->clock_ns, 0);
}

// The first batch of all is given half of the time that its deadline leaves.
TEST_F(BatchGathererTest, ADeadlineIsHalvedBeforeABatchWasTimed) {
  Open(2, {.max_batch = 8, .max_delay_us = 900 * kSecond / kUs});
  const int64_t earliest = worker_->RealNs();
  Submit(0, 1, 1, {.timeout = absl::Seconds(1000)});
  const int64_t latest = worker_->RealNs();
  EXPECT_TRUE(worker_->Turn());
  ASSERT_THAT(worker_->waited_until, SizeIs(1));
  EXPECT_GE(worker_->waited_until[0], (1000 * kSecond + earliest) / 2);
  EXPECT_LE(worker_->waited_until[0], (1000 * kSecond + latest) / 2);
  EXPECT_EQ(Answer(0), "2");
}

// The model takes 400 s: a request that is due in 1000 s waits for 600.
TEST_F(BatchGathererTest, ADeadlineCutsTheDelayShort) {
  Open(2, {.max_batch = 8, .max_delay_us = 900 * kSecond / kUs});
  model_->before = [&] {
    worker_->clock_ns += 400 * kSecond;
    return absl::OkStatus();
  };
  Submit(0, 1, 1, {.timeout = absl::InfiniteDuration()});
  EXPECT_TRUE(worker_->Turn());
  worker_->waited_until.clear();
  worker_->turn = 0;
  const int64_t now = worker_->clock_ns;
  Submit(0, 1, 1, {.timeout = absl::InfiniteDuration()});
  const int64_t earliest = worker_->RealNs();
  Submit(1, 2, 1, {.timeout = absl::Nanoseconds(now + 1000 * kSecond - earliest)});
  const int64_t latest = worker_->RealNs();
  EXPECT_TRUE(worker_->Turn());
  ASSERT_THAT(worker_->waited_until, SizeIs(1));
  EXPECT_GE(worker_->waited_until[0], now + 600 * kSecond);
  EXPECT_LE(worker_->waited_until[0], now + 600 * kSecond + latest - earliest);
  EXPECT_THAT(model_->calls.back(), ElementsAre(1, 2));
}

TEST_F(BatchGathererTest, ADeadlineThatIsCloserThanABatchIsNotWaitedWith) {
  Open(2, {.max_batch = 8, .max_delay_us = 90'000});
  model_->before = [&] {
    worker_->clock_ns += 3600 * kSecond;
    return absl::OkStatus();
  };
  Submit(0, 1, 1, {.timeout = absl::InfiniteDuration()});
  EXPECT_TRUE(worker_->Turn());
  worker_->waited_until.clear();
  Submit(1, 2, 1, {.timeout = absl::Seconds(3600 + 600)});
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(worker_->waited_until, IsEmpty());
  EXPECT_EQ(Answer(1), "4");
}

TEST(BatchDurationTest, FallsByEighthsAndRisesAtOnce) {
  runtime::BatchDuration duration;
  EXPECT_FALSE(duration.known());
  duration.Observe(80);
  EXPECT_EQ(duration.expected_ns(), 80);
  duration.Observe(0);
  EXPECT_EQ(duration.expected_ns(), 71);
  duration.Observe(1000);
  EXPECT_EQ(duration.expected_ns(), 1000);
  for (int i = 0; i < 100; ++i) duration.Observe(8);
  EXPECT_LT(duration.expected_ns(), 16);
}

// A channel full of requests leaves the others their places.
TEST_F(BatchGathererTest, AFloodingChannelKeepsNobodyOut) {
  Open(3, {.max_batch = 4});
  for (int i = 0; i < 10; ++i) Submit(0, static_cast<float>(i));
  Submit(1, 100);
  Submit(2, 200);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls.back(), ElementsAre(0, 100, 200, 1));
  // Full: the turn is the next one's, which comes in before the flood goes on.
  Submit(1, 101);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls.back(), ElementsAre(101, 2, 3, 4));
}

TEST_F(BatchGathererTest, MoreRowsThanThereIsRoomForBeginTheNext) {
  Open(2, {.max_batch = 4});
  Submit(0, 0, 3);
  Submit(1, 10, 1);
  EXPECT_TRUE(worker_->Turn());  // known from now on
  Submit(0, 0, 3);
  Submit(1, 10, 1);
  Submit(0, 20, 3);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls.back(), ElementsAre(0, 1, 2, 10));
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls.back(), ElementsAre(20, 21, 22));
}

TEST_F(BatchGathererTest, MoreRowsThanABatchHasAreACallOfTheirOwn) {
  Open(2, {.max_batch = 2});
  Submit(0, 0, 5);
  Submit(1, 10);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(SizeIs(5), ElementsAre(10)));
  EXPECT_EQ(Answer(0), "0 2 4 6 8");
  EXPECT_EQ(Answer(1), "20");
}

TEST_F(BatchGathererTest, OneRequestIsReadWhereItLies) {
  Open(2, {.max_batch = 4});
  Submit(0, 1);
  Submit(1, 2);
  EXPECT_TRUE(worker_->Turn());
  const std::byte* const staging = model_->last_input;
  Submit(0, 3);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_NE(model_->last_input, staging);
  const std::byte* const in_place = model_->last_input;
  EXPECT_EQ(Answer(0), "2");
  EXPECT_EQ(Answer(0), "6");
  EXPECT_EQ(Answer(1), "4");
  // The staging memory is kept.
  Submit(0, 1);
  Submit(1, 2);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_EQ(model_->last_input, staging);
  EXPECT_NE(in_place, staging);
}

// Two kinds, of two channels each, in turns: two batches, and nobody waits for a delay.
TEST_F(BatchGathererTest, ShapesAreBatchesOfTheirOwn) {
  Open(4, {.max_batch = 8, .max_delay_us = 1000}, MatrixSignature());
  const auto submit_all = [&] {
    for (size_t i = 0; i < 4; ++i) SubmitMatrix(i, static_cast<float>(i), 1, i % 2 == 0 ? 2 : 3);
  };
  submit_all();
  while (worker_->Turn()) {
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_NE(Answer(i), "none");
  model_->calls.clear();
  worker_->waited_until.clear();
  worker_->turn = 0;

  submit_all();
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(0, 0, 2, 2)));
  EXPECT_THAT(worker_->waited_until, IsEmpty()) << "while another kind waits";
  // They were not taken: a worker that had died would have left them to the next.
  EXPECT_EQ(page().taken, 6u);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls.back(), ElementsAre(1, 1, 1, 3, 3, 3));
  EXPECT_EQ(Answer(1), "2 2 2");
  EXPECT_EQ(Answer(2), "4 4");
}

// A kind that is alone among many is not overtaken for ever: it begins the next batch.
TEST_F(BatchGathererTest, WhoWaitedBeginsTheNextBatch) {
  Open(3, {.max_batch = 2}, MatrixSignature());
  SubmitMatrix(0, 0, 1, 2);
  SubmitMatrix(1, 1, 1, 3);
  SubmitMatrix(2, 2, 1, 2);
  while (worker_->Turn()) {
  }
  model_->calls.clear();
  worker_->turn = 0;
  for (int i = 0; i < 3; ++i) {
    SubmitMatrix(0, 0, 1, 2);
    SubmitMatrix(2, 2, 1, 2);
  }
  SubmitMatrix(1, 1, 1, 3);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_TRUE(worker_->Turn());
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(std::vector(model_->calls.begin(), model_->calls.begin() + 2),
              ::testing::Contains(ElementsAre(1, 1, 1)));
}

// ---- What comes in between ---------------------------------------------------------------------

TEST_F(BatchGathererTest, ACommandHasTheBatchRunAtOnce) {
  Open(2, {.max_batch = 8, .max_delay_us = 1000});
  Submit(0, 1, 1, {.timeout = absl::InfiniteDuration()});
  worker_->waits = {[&] { worker_->command_waits = true; }};
  EXPECT_TRUE(worker_->Turn());
  EXPECT_EQ(worker_->clock_ns, 0) << "the delay was waited for";
  EXPECT_EQ(Answer(0), "2");
  // And nothing is taken while it waits.
  Submit(1, 2);
  EXPECT_FALSE(worker_->Turn());
  EXPECT_EQ(Answer(1), "none");
  EXPECT_EQ(page().taken, 1u);
}

// Also where requests keep joining: it waits for some of them, not for a batch of thousands.
TEST_F(BatchGathererTest, ACommandEndsALongGathering) {
  Open(1, {.max_batch = 1000});
  channels_.push_back(server_->Open({.ring_entries = 1024,
                                     .request_arena_bytes = 1 << 20,
                                     .response_arena_bytes = 2 << 20,
                                     .max_handles = 1024}));
  worker_.emplace(*server_, *model_, loader::BatchingPolicy{.max_batch = 1000});
  const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {1}};
  const RequestPlan plan = *channels_[1].Plan({&x, 1}, 128);
  for (int i = 0; i < 900; ++i) ASSERT_TRUE(channels_[1].Submit(*channels_[1].Loan(plan)).ok());
  worker_->command_after = 10;
  EXPECT_TRUE(worker_->Turn());
  EXPECT_GT(page().taken, 0u);
  EXPECT_LT(page().taken, 100u);
}

TEST_F(BatchGathererTest, NothingWaitsWhileStreamsAreUnderWay) {
  Open(1, {.max_batch = 8, .max_delay_us = 1000});
  worker_->others_run = true;
  Submit(0, 1, 1, {.timeout = absl::InfiniteDuration()});
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(worker_->waited_until, IsEmpty());
  EXPECT_EQ(Answer(0), "2");
}

TEST_F(BatchGathererTest, ACancelledOneIsAnsweredAlone) {
  Open(3, {.max_batch = 8});
  Submit(0, 1);
  const Ticket ticket = Submit(1, 2);
  Submit(2, 3);
  ASSERT_TRUE(channels_[1].Cancel(ticket).ok());
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(1, 3)));
  EXPECT_EQ(Answer(0), "2");
  EXPECT_EQ(Answer(1), "none");  // nobody asks any more
  EXPECT_EQ(Answer(2), "6");
  EXPECT_EQ(page().expired, 1u);
}

TEST_F(BatchGathererTest, AnExpiredOneIsAnsweredAlone) {
  Open(2, {.max_batch = 8});
  Submit(0, 1, 1, {.timeout = absl::Hours(1)});
  Submit(1, 2, 1, {.timeout = absl::Hours(3)});
  worker_->clock_ns = 7200 * kSecond;
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_->calls, ElementsAre(ElementsAre(2)));
  EXPECT_EQ(Answer(0), "DEADLINE_EXCEEDED");
  EXPECT_EQ(Answer(1), "4");
}

// A request that is served on its own may take long: what has expired meanwhile does not join.
TEST_F(BatchGathererTest, TheClockIsReadAgainAfterACallOfItsOwn) {
  Open(2, {.max_batch = 2});
  Submit(0, 1);
  Submit(1, 1);
  EXPECT_TRUE(worker_->Turn());  // known from now on
  EXPECT_EQ(Answer(0), "2");
  EXPECT_EQ(Answer(1), "2");
  worker_->turn = 0;
  model_->before = [&] {
    worker_->clock_ns += 7200 * kSecond;
    return absl::OkStatus();
  };
  Submit(0, 1, 5, {.timeout = absl::Hours(3)});  // more rows than a batch has
  Submit(1, 2, 1, {.timeout = absl::Hours(1)});
  while (worker_->Turn()) {
  }
  EXPECT_EQ(Answer(0), "2 4 6 8 10");
  EXPECT_EQ(Answer(1), "DEADLINE_EXCEEDED");
}

// What is bad or expired goes on coming; the batch goes on all the same.
TEST_F(BatchGathererTest, AFloodOfExpiredOnesDoesNotKeepABatch) {
  Open(2, {.max_batch = 8});
  for (int i = 0; i < 10; ++i) Submit(0, 1, 1, {.timeout = absl::Hours(1)});
  Submit(1, 2, 1, {.timeout = absl::Hours(3)});
  worker_->clock_ns = 7200 * kSecond;
  EXPECT_TRUE(worker_->Turn());
  EXPECT_EQ(Answer(1), "4");
  EXPECT_LT(page().taken, 11u);
}

// ---- Cost --------------------------------------------------------------------------------------

TEST_F(BatchGathererTest, NothingIsAllocatedInSteadyState) {
  Open(4, {.max_batch = 8});
  std::vector<BoundRequest> bound;
  for (size_t i = 0; i < 8; ++i) {
    Channel& channel = channels_[i % 4];
    const TensorSpec x{
        .name = "x", .dtype = DType::kFloat32, .shape = {i < 4 ? int64_t{1} : int64_t{2}}};
    bound.push_back(*channel.Bind(*channel.Plan({&x, 1})));
    for (float& value : bound.back().input<float>(0)) value = 3;
  }
  model_->remembers = false;
  for (int lap = 0; lap < 100; ++lap) {
    for (size_t i = 0; i < 8; ++i) ASSERT_TRUE(channels_[i % 4].Submit(bound[i]).ok());
    const uint64_t before = loader::AllocationsOfThisThread();
    while (worker_->Turn()) {
    }
    // What the first batches needed stays.
    if (lap >= 10) {
      ASSERT_EQ(loader::AllocationsOfThisThread() - before, 0u) << lap;
    }
    for (size_t i = 0; i < 8; ++i) {
      const std::optional<Outcome> outcome = channels_[i % 4].Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
    }
  }
  EXPECT_LT(page().batches, 300u) << "nothing was batched";
}

}  // namespace
}  // namespace baton::test

// The serving loop of a worker that batches, on a thread of its own. Delays are an hour,
// so that a wait which nothing ends hangs the test.
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "baton/stream.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/front/loop_thread.h"

namespace baton::test {
namespace {

using runtime::Command;

constexpr int64_t kHourUs = 3'600'000'000;

class BatchingLoopTest : public ::testing::Test {
 protected:
  void Start(size_t channels, const loader::BatchingPolicy& policy) {
    for (size_t i = 0; i < channels; ++i) {
      channels_.push_back(server_.Open(
          {.ring_entries = 16, .request_arena_bytes = 64 << 10, .response_arena_bytes = 2 << 20}));
    }
    loop_.emplace(server_, model_, nullptr, policy);
    for (size_t i = 0; i < channels; ++i) loop_->Add(i);
    loop_->Say(Command::Kind::kServe);
  }
  // With a deadline that is a day away, and ends no wait.
  void Submit(size_t channel, float x) {
    ASSERT_TRUE(channels_[channel]
                    .Submit(Vector(channels_[channel], 1, x), {.timeout = absl::InfiniteDuration()})
                    .ok());
  }
  void ExpectAnswer(size_t channel, float y) {
    const std::optional<Outcome> outcome = channels_[channel].Wait(absl::InfiniteDuration());
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(outcome->response.ok()) << outcome->response.status();
    EXPECT_EQ(outcome->response->output<float>("y")[0], y);
  }
  void AwaitTaken(uint64_t count) {
    while (server_.worker_page().taken.load() < count) std::this_thread::yield();
  }

  FakeServer server_;
  FunctionModel model_{Double};
  std::vector<Channel> channels_;
  std::optional<LoopThread> loop_;
};

TEST_F(BatchingLoopTest, AHoldEndsTheWaitAndIsAnsweredBehindTheBatch) {
  Start(2, {.max_batch = 8, .max_delay_us = kHourUs});
  Submit(0, 1);
  AwaitTaken(1);
  EXPECT_EQ(model_.runs(), 0);
  loop_->Say(Command::Kind::kHold, 5);
  loop_->WaitFor("held 5");
  EXPECT_EQ(model_.runs(), 1);
  EXPECT_EQ(server_.worker_page().completed.load(), 1u);
  ExpectAnswer(0, 2);
  // Held: it waits in the ring, and is not taken.
  Submit(1, 2);
  loop_->Say(Command::Kind::kHold, 6);
  loop_->WaitFor("held 6");
  EXPECT_EQ(server_.worker_page().taken.load(), 1u);
}

TEST_F(BatchingLoopTest, AnExitEndsTheWait) {
  Start(2, {.max_batch = 8, .max_delay_us = kHourUs});
  Submit(0, 1);
  Submit(1, 2);
  AwaitTaken(2);
  loop_->Exit();
  ExpectAnswer(0, 2);
  ExpectAnswer(1, 4);
  EXPECT_EQ(model_.runs(), 1);
}

TEST_F(BatchingLoopTest, AChannelGoesOnceItsRequestIsAnswered) {
  Start(2, {.max_batch = 8, .max_delay_us = kHourUs});
  Submit(0, 1);
  AwaitTaken(1);
  loop_->Say(Command::Kind::kRemoveChannel, 7, 0);
  loop_->WaitFor("removed 0");
  EXPECT_EQ(server_.worker_page().completed.load(), 1u);
}

// R3: asleep in a batch that waits, and only the doorbell to be woken by.
TEST_F(BatchingLoopTest, R3ARequestWakesABatchThatWaits) {
  Start(2, {.max_batch = 2, .max_delay_us = kHourUs});
  for (int i = 0; i < 1000; ++i) {
    const float x = static_cast<float>(i);
    Submit(0, x);
    AwaitTaken(2 * static_cast<uint64_t>(i) + 1);
    Submit(1, x + 1);
    ExpectAnswer(0, 2 * x);
    ExpectAnswer(1, 2 * x + 2);
  }
  EXPECT_EQ(model_.runs(), 1000);
  EXPECT_EQ(server_.worker_page().batch_rows.load(), 2000u);
}

// A delay that nothing cuts short ends by itself, and a wait between batches is as without them.
TEST_F(BatchingLoopTest, ABatchThatNobodyFillsIsRun) {
  Start(2, {.max_batch = 8, .max_delay_us = 200});
  for (int i = 0; i < 100; ++i) {
    Submit(0, 1);
    ExpectAnswer(0, 2);
  }
  EXPECT_EQ(server_.worker_page().batches.load(), 100u);
}

// ---- Beside streams ----------------------------------------------------------------------------

// Doubles, and has a method "count" that streams 0, 1, 2, ... for ever.
class CountingModel final : public loader::Model {
 public:
  const Signature& signature() const override { return methods_[0].signature; }
  std::span<const Method> methods() const override { return methods_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const loader::DeviceRegion&) override { return absl::OkStatus(); }
  size_t max_streams() const override { return 2; }
  absl::Status Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    ++runs;
    return Double(inputs, outputs);
  }
  absl::StatusOr<std::unique_ptr<loader::ModelStream>> StartStream(size_t, loader::CallContext&,
                                                                   std::span<const TensorView>,
                                                                   loader::ItemSource&) override {
    return std::make_unique<Count>();
  }
  const std::vector<Method>& all() const { return methods_; }

  std::atomic<int> runs{0};

 private:
  class Count final : public loader::ModelStream {
   public:
    absl::StatusOr<bool> Next(loader::OutputSink& outputs) override {
      const int64_t shape[] = {1};
      const absl::StatusOr<std::span<std::byte>> y = outputs.Allocate(0, shape);
      if (!y.ok()) return y.status();
      *reinterpret_cast<float*>(y->data()) = next_++;
      return true;
    }

   private:
    float next_ = 0;
  };
  const std::vector<Method> methods_ = {
      {.name = "double", .signature = VectorSignature()},
      {.name = "count", .signature = VectorSignature(), .streams_outputs = true}};
};

// A stream is no part of a batch, and no batch waits while one is under way.
TEST(BatchingStreamsTest, StreamsGoOnBesideBatches) {
  CountingModel model;
  FakeServer server(model.all());
  const ChannelOptions options{
      .ring_entries = 16, .request_arena_bytes = 64 << 10, .response_arena_bytes = 2 << 20};
  Channel counts = server.Open(options);
  Channel doubles = server.Open(options);
  LoopThread loop(server, model, nullptr, {.max_batch = 8, .max_delay_us = kHourUs});
  loop.Add(0);
  loop.Add(1);
  loop.Say(Command::Kind::kServe);
  const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {1}};
  absl::StatusOr<Stream> stream =
      counts.OpenStream(*counts.NewRequest(std::span(&x, 1), {.method = 1}), {.window = 2});
  ASSERT_TRUE(stream.ok()) << stream.status();
  for (int i = 0; i < 10; ++i) {
    const absl::StatusOr<Stream::ReadResult> read = stream->Read(absl::InfiniteDuration());
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(read->found, Stream::Found::kResponse);
    EXPECT_EQ(read->response.output<float>("y")[0], static_cast<float>(i));
    const absl::StatusOr<Response> response =
        doubles.Call(Vector(doubles, 1, 21), {.timeout = absl::InfiniteDuration()});
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->output<float>("y")[0], 42);
  }
  EXPECT_EQ(server.worker_page().batches.load(), 10u);
}

// Fronts that sleep in Call are all woken by the one look at the end of a batch.
TEST_F(BatchingLoopTest, R3EveryFrontOfABatchIsWoken) {
  constexpr size_t kFronts = 4;
  constexpr int kCalls = 500;
  Start(kFronts, {.max_batch = kFronts, .max_delay_us = 100});
  std::vector<std::thread> fronts;
  for (size_t i = 0; i < kFronts; ++i) {
    fronts.emplace_back([this, i] {
      for (int call = 0; call < kCalls; ++call) {
        const float x = static_cast<float>(call);
        const absl::StatusOr<Response> response =
            channels_[i].Call(Vector(channels_[i], 1, x), {.timeout = absl::InfiniteDuration()});
        ASSERT_TRUE(response.ok()) << response.status();
        ASSERT_EQ(response->output<float>("y")[0], 2 * x);
      }
    });
  }
  for (std::thread& front : fronts) front.join();
  EXPECT_EQ(server_.worker_page().completed.load(), kFronts * kCalls);
}

}  // namespace
}  // namespace baton::test

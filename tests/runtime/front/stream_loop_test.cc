// Streams and kept inputs in the loop that serves all channels of a worker.
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "ipc/stream_layout.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/front/loop_thread.h"
#include "tests/runtime/front/stream_calls.h"

namespace baton::test {
namespace {

using runtime::Command;

ChannelOptions Small() {
  return {.ring_entries = 16,
          .request_arena_bytes = 256 << 10,
          .response_arena_bytes = 1 << 20,
          .max_handles = 64};
}

class StreamLoopTest : public ::testing::Test {
 protected:
  void Serve(size_t max_streams) {
    model_ = std::make_unique<StreamModel>(max_streams);
    loop_ = std::make_unique<LoopThread>(server_, *model_);
    for (size_t i = 0; i < 2; ++i) loop_->Add(i);
    loop_->Say(Command::Kind::kServe);
  }
  // A sum on channel_ that has been given its first item, 1, and has answered that.
  Stream OpenSum() {
    Stream stream = OpenItems(channel_, kSum);
    EXPECT_TRUE(WriteItem(stream, 1).ok());
    EXPECT_EQ(ReadText(stream, kLong), "1");
    return stream;
  }
  static void ExpectEndAfterOneMore(Stream& sum) {
    ASSERT_TRUE(WriteItem(sum, 1).ok());
    EXPECT_EQ(ReadText(sum, kLong), "2");
    ASSERT_TRUE(sum.WritesDone().ok());
    EXPECT_EQ(ReadText(sum, kLong), "end");
  }
  // Of the channel's first call, a stream: the items that the model does not need any more.
  static uint64_t ItemsTaken(const RawWorker& raw) {
    const auto& progress =
        *reinterpret_cast<const ipc::StreamProgress*>(raw.response_block(raw.submission(0)).data());
    return progress.items_taken.load();
  }
  static void Await(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::yield();
  }

  FakeServer server_{StreamMethods()};
  Channel channel_ = server_.Open(Small());
  Channel other_ = server_.Open(Small());
  std::unique_ptr<StreamModel> model_;
  std::unique_ptr<LoopThread> loop_;
};

TEST_F(StreamLoopTest, RequestsAreServedBetweenTheSteps) {
  Serve(/*max_streams=*/2);
  Stream stream = OpenCount(channel_, {{"n", 1'000'000}}, {.window = 1});
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(ReadText(stream, kLong), std::to_string(i));
    ASSERT_TRUE(other_.Call(Scalars(other_, kAdd, {{"x", 1}})).ok());
  }
  EXPECT_EQ(model_->destroyed.load(), 0);
}

TEST_F(StreamLoopTest, NothingIsStartedWhileThereAreAsManyAsMayBe) {
  Serve(/*max_streams=*/1);
  Stream stream = OpenCount(channel_, {{"n", 10}}, {.window = 1});
  EXPECT_EQ(ReadText(stream, kLong), "0");
  absl::StatusOr<Ticket> ticket = other_.Submit(Scalars(other_, kAdd, {{"x", 1}}));
  ASSERT_TRUE(ticket.ok());
  Stream second = OpenCount(channel_, {{"n", 1}}, {.window = 1});
  const RawWorker raw(server_, 1);
  for (int i = 1; i < 9; ++i) {
    EXPECT_EQ(ReadText(stream, kLong), std::to_string(i));
    EXPECT_EQ(raw.state().taken.load(), 0u);
    EXPECT_EQ(model_->started.load(), 1);
  }
  EXPECT_EQ(ReadText(stream, kLong), "9");  // now it may end
  EXPECT_EQ(ReadText(stream, kLong), "end");
  EXPECT_EQ(ReadText(second, kLong), "0");
  EXPECT_EQ(ReadText(second, kLong), "end");
  const std::optional<Outcome> outcome = other_.Wait(kLong);
  ASSERT_TRUE(outcome && outcome->response.ok());
}

TEST_F(StreamLoopTest, AHoldWaitsForStreamsAndStartsNone) {
  Serve(/*max_streams=*/4);
  Stream stream = OpenCount(channel_, {{"n", 5}}, {.window = 1});
  EXPECT_EQ(ReadText(stream, kLong), "0");
  Await([&] { return model_->given.load() == 2; });  // the next waits to be read
  loop_->Say(Command::Kind::kHold, /*call=*/7);
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/99);  // comes after the hold
  loop_->WaitFor("removed 99");
  EXPECT_FALSE(loop_->HasSaid("held 7"));
  ASSERT_TRUE(other_.Submit(Scalars(other_, kAdd, {{"x", 1}})).ok());
  const RawWorker raw(server_, 1);
  for (int i = 1; i < 5; ++i) EXPECT_EQ(ReadText(stream, kLong), std::to_string(i));
  EXPECT_EQ(ReadText(stream, kLong), "end");
  loop_->WaitFor("held 7");
  EXPECT_EQ(raw.state().taken.load(), 0u);
  loop_->Say(Command::Kind::kServe);
  EXPECT_TRUE(other_.Wait(kLong)->response.ok());
}

TEST_F(StreamLoopTest, AHoldThatCameDuringAStepComesBeforeTheNextRequest) {
  Serve(/*max_streams=*/4);
  Stream stream = OpenSum();
  const RawWorker raw(server_, 0);
  Await([&] { return ItemsTaken(raw) == 1; });  // the model waits for the second
  loop_->Say(Command::Kind::kHold, /*call=*/7);
  ASSERT_TRUE(channel_.Submit(Scalars(channel_, kAdd, {{"x", 1}})).ok());
  ExpectEndAfterOneMore(stream);
  loop_->WaitFor("held 7");
  EXPECT_EQ(raw.state().taken.load(), 1u);
  loop_->Say(Command::Kind::kServe);
  EXPECT_TRUE(channel_.Wait(kLong)->response.ok());
}

TEST_F(StreamLoopTest, AStreamThatWaitsForItsCallerHoldsNobodyUp) {
  Serve(/*max_streams=*/4);
  Stream sums = OpenSum();
  const RawWorker raw(server_, 0);
  Await([&] { return ItemsTaken(raw) == 1; });  // the model waits for the second
  Stream second = OpenItems(other_, kCollect, {.window = 4});
  Stream counts = OpenCount(other_, {{"n", 3}}, {.window = 4});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ReadText(counts, kLong), std::to_string(i));
    ASSERT_TRUE(channel_.Call(Scalars(channel_, kAdd, {{"x", 1}})).ok());
    ASSERT_TRUE(WriteItem(second, i).ok());
  }
  EXPECT_EQ(ReadText(counts, kLong), "end");
  Await([&] { return server_.worker_page().busy_since_ns.load() == 0; });
  ASSERT_TRUE(second.WritesDone().ok());
  EXPECT_EQ(ReadText(second, kLong), "3");
  EXPECT_EQ(ReadText(second, kLong), "end");
  ASSERT_TRUE(WriteItem(sums, 5).ok());
  EXPECT_EQ(ReadText(sums, kLong), "6");
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/0);  // while it waits
  loop_->WaitFor("removed 0");
  EXPECT_EQ(model_->destroyed.load(), 3);
}

TEST_F(StreamLoopTest, OneCallRunsAtATimeWhateverTheThread) {
  Serve(/*max_streams=*/4);
  Stream sums = OpenItems(channel_, kSum);
  Stream more = OpenItems(other_, kSum, {.window = 4});
  Stream counts = OpenCount(other_, {{"n", 300}}, {.window = 2});
  int64_t sum = 0;
  for (int64_t x = 0; x < 300; ++x) {
    ASSERT_TRUE(WriteItem(sums, x).ok());
    ASSERT_TRUE(WriteItem(more, 1).ok());
    absl::StatusOr<Ticket> ticket = channel_.Submit(Scalars(channel_, kAdd, {{"x", x}}));
    ASSERT_TRUE(ticket.ok());
    ASSERT_EQ(ReadText(counts, kLong), std::to_string(x));
    ASSERT_EQ(ReadText(more, kLong), std::to_string(x + 1));
    ASSERT_EQ(ReadText(sums, kLong), std::to_string(sum += x));
    const std::optional<Outcome> outcome = channel_.Wait(kLong);
    ASSERT_TRUE(outcome && outcome->response.ok());
  }
  EXPECT_EQ(model_->most_inside.load(), 1);
}

TEST_F(StreamLoopTest, AStreamThatWaitsEndsWithItsTime) {
  Serve(/*max_streams=*/2);
  Stream stream = OpenItems(channel_, kCollect, {.timeout = absl::Milliseconds(50)});
  Await([&] { return model_->destroyed.load() == 1; });
  EXPECT_EQ(ReadText(stream, kLong), "DEADLINE_EXCEEDED");
}

TEST_F(StreamLoopTest, AHoldThatIsCalledOffIsNotAnswered) {
  Serve(/*max_streams=*/4);
  Stream stream = OpenSum();
  loop_->Say(Command::Kind::kHold, /*call=*/7);
  loop_->Say(Command::Kind::kServe);
  ExpectEndAfterOneMore(stream);  // it was under way: nothing was to be answered yet
  ASSERT_TRUE(other_.Call(Scalars(other_, kAdd, {{"x", 1}})).ok());
  EXPECT_FALSE(loop_->HasSaid("held 7"));
}

TEST_F(StreamLoopTest, AnExitEndsThem) {
  Serve(/*max_streams=*/4);
  Stream counts = OpenCount(channel_, {{"n", 100}}, {.window = 1});
  EXPECT_EQ(ReadText(counts, kLong), "0");
  Await([&] { return model_->given.load() == 2; });
  loop_->Exit();
  EXPECT_EQ(ReadText(counts, kLong), "1");
  EXPECT_EQ(ReadText(counts, kLong), "ABORTED");
  EXPECT_EQ(model_->started.load(), model_->destroyed.load());
}

TEST_F(StreamLoopTest, AnExitEndsOneThatWaitsForItsCaller) {
  Serve(/*max_streams=*/1);
  Stream stream = OpenItems(channel_, kCollect);
  ASSERT_TRUE(WriteItem(stream, 1).ok());
  Await([&] { return model_->started.load() == 1; });
  loop_->Exit();
  EXPECT_EQ(ReadText(stream, kLong), "ABORTED");
  EXPECT_EQ(model_->destroyed.load(), 1);
}

TEST_F(StreamLoopTest, OneThatWaitsForItsCallerIsNotBusy) {
  Serve(/*max_streams=*/1);
  Stream stream = OpenItems(channel_, kCollect);
  ASSERT_TRUE(WriteItem(stream, 1).ok());
  const RawWorker raw(server_, 0);
  const ipc::WorkerPage& page = server_.worker_page();
  // It waits when it has said that it does not need the first any more.
  Await([&] { return ItemsTaken(raw) == 1 && page.busy_since_ns.load() == 0; });
  const int64_t beat = page.heartbeat_ns.load();
  Await([&] { return page.heartbeat_ns.load() > beat; });
  EXPECT_EQ(page.busy_since_ns.load(), 0);
  stream.Cancel();
  Await([&] { return model_->destroyed.load() == 1; });
}

TEST_F(StreamLoopTest, AFrontThatGoesTakesItsStreamsAlong) {
  Serve(/*max_streams=*/1);
  Stream waits = OpenItems(channel_, kCollect);
  ASSERT_TRUE(WriteItem(waits, 1).ok());
  Await([&] { return model_->started.load() == 1; });
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/0);
  loop_->WaitFor("removed 0");
  EXPECT_EQ(model_->destroyed.load(), 1);
  Stream counts = OpenCount(other_, {{"n", 100}}, {.window = 1});
  EXPECT_EQ(ReadText(counts, kLong), "0");
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/1);
  loop_->WaitFor("removed 1");
  EXPECT_EQ(model_->destroyed.load(), 2);
}

TEST(KeptInputsLoop, ARewakeComesFromAnyThread) {
  FakeServer server;
  std::mutex mutex;
  std::shared_ptr<void> token;
  MethodModel model({{.name = "predict", .signature = VectorSignature()}},
                    {[&](loader::CallContext& call, std::span<const TensorView> inputs,
                         loader::OutputSink& outputs) {
                      const std::lock_guard lock(mutex);
                      token = call.KeepInputs();
                      return Double(inputs, outputs);
                    }});
  Channel channel = server.Open(Small());
  {
    LoopThread loop(server, model);
    loop.Add(0);
    loop.Say(Command::Kind::kServe);
    ASSERT_TRUE(channel.Call(Vector(channel, 4, 1)).ok());
    loop.Say(Command::Kind::kHold, 3);
    loop.WaitFor("held 3");  // they do not keep it from holding
    EXPECT_LT(channel.free_request_bytes(), Small().request_arena_bytes);
    {
      const std::lock_guard lock(mutex);
      token.reset();
    }
    while (channel.free_request_bytes() < Small().request_arena_bytes) {
      channel.Poll();
      std::this_thread::yield();
    }
    loop.Say(Command::Kind::kServe);
    ASSERT_TRUE(channel.Call(Vector(channel, 4, 1)).ok());
  }
  token.reset();  // the loop is no more
}

}  // namespace
}  // namespace baton::test

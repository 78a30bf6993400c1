// Calls of a model that may have several at once, in the loop that serves its channels.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/stream_layout.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/front/loop_thread.h"
#include "tests/runtime/front/stream_calls.h"

namespace baton::test {
namespace {

using runtime::Command;

ChannelOptions Small() {
  return {.ring_entries = 64,
          .request_arena_bytes = 256 << 10,
          .response_arena_bytes = 1 << 20,
          .max_handles = 64};
}

// StreamModel with concurrent calls. `add` of a number that is to be kept waits in the model until
// it is let go; of -1 it throws; and it keeps its inputs where it is told to.
class ConcurrentModel final : public StreamModel {
 public:
  explicit ConcurrentModel(size_t most) : StreamModel(most) {}
  bool concurrent_calls() const override { return true; }

  absl::Status RunMethod(size_t method, loader::CallContext& call,
                         std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    const int64_t x = inputs[0].As<int64_t>()[0];
    if (x == -1) throw std::runtime_error("no such number");
    {
      std::unique_lock lock(mutex_);
      if (keeps_inputs) kept_.push_back(call.KeepInputs());
      if (x >= kWaits) {
        waiting_.push_back(x);
        changed_.notify_all();
        changed_.wait(
            lock, [&] { return std::find(waiting_.begin(), waiting_.end(), x) == waiting_.end(); });
      }
    }
    return StreamModel::RunMethod(method, call, inputs, outputs);
  }

  // Numbers that wait in the model, in the order of their being started.
  std::vector<int64_t> AwaitWaiting(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_.size() == count; });
    return waiting_;
  }
  void LetGo(int64_t x) {
    const std::lock_guard lock(mutex_);
    std::erase(waiting_, x);
    changed_.notify_all();
  }

  void DropKept() {
    const std::lock_guard lock(mutex_);
    kept_.clear();
  }

  static constexpr int64_t kWaits = 1000;
  std::atomic<bool> keeps_inputs{false};

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int64_t> waiting_;             // guarded by mutex_
  std::vector<std::shared_ptr<void>> kept_;  // likewise
};

class ConcurrentCallsTest : public ::testing::Test {
 protected:
  void Serve(size_t most) {
    model_ = std::make_unique<ConcurrentModel>(most);
    loop_ = std::make_unique<LoopThread>(server_, *model_);
    for (size_t i = 0; i < 2; ++i) loop_->Add(i);
    loop_->Say(Command::Kind::kServe);
  }
  static void Await(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::yield();
  }
  static Ticket Submit(Channel& channel, int64_t x) {
    absl::StatusOr<Ticket> ticket = channel.Submit(Scalars(channel, kAdd, {{"x", x}}));
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return *ticket;
  }
  // The next answer of any request; the status where it is none.
  static std::string Answer(Channel& channel) {
    const std::optional<Outcome> outcome = channel.Wait(kLong);
    if (!outcome) return "nothing";
    if (!outcome->response.ok()) return outcome->response.status().ToString();
    return std::to_string(outcome->response->output<int64_t>("y")[0]);
  }
  int64_t busy_since() { return server_.worker_page().busy_since_ns.load(); }

  FakeServer server_{StreamMethods()};
  Channel channel_ = server_.Open(Small());
  Channel other_ = server_.Open(Small());
  std::unique_ptr<ConcurrentModel> model_;
  std::unique_ptr<LoopThread> loop_;
};

TEST_F(ConcurrentCallsTest, RequestsOfOneChannelAreStartedInOrderAndAnsweredAsTheyEnd) {
  Serve(3);
  Submit(channel_, 1000);
  model_->AwaitWaiting(1);
  Submit(channel_, 2000);
  EXPECT_EQ(model_->AwaitWaiting(2), (std::vector<int64_t>{1000, 2000}));
  Submit(channel_, 7);
  EXPECT_EQ(Answer(channel_), "8");
  model_->LetGo(2000);
  EXPECT_EQ(Answer(channel_), "2001");
  model_->LetGo(1000);
  EXPECT_EQ(Answer(channel_), "1001");
}

TEST_F(ConcurrentCallsTest, NothingIsTakenWhileAsManyRunAsMay) {
  Serve(2);
  const RawWorker raw(server_, 0);
  Submit(channel_, 1000);
  Submit(channel_, 2000);
  model_->AwaitWaiting(2);
  Submit(channel_, 7);
  Submit(other_, 7);
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/99);
  loop_->WaitFor("removed 99");
  EXPECT_EQ(raw.state().taken.load(), 2u);
  EXPECT_EQ(RawWorker(server_, 1).state().taken.load(), 0u);
  model_->LetGo(1000);
  EXPECT_EQ(Answer(other_), "8");
  EXPECT_EQ(Answer(channel_), "1001");
  EXPECT_EQ(Answer(channel_), "8");
  model_->LetGo(2000);
  EXPECT_EQ(Answer(channel_), "2001");
}

TEST_F(ConcurrentCallsTest, ThePageTellsOfTheOldestAndOfTheEarliestDeadline) {
  Serve(3);
  const ipc::WorkerPage& page = server_.worker_page();
  ASSERT_TRUE(
      channel_.Submit(Scalars(channel_, kAdd, {{"x", 1000}}), {.timeout = absl::Hours(20)}).ok());
  model_->AwaitWaiting(1);
  const int64_t first = busy_since();
  const int64_t late = page.busy_deadline_ns.load();
  EXPECT_GT(first, 0);
  ASSERT_TRUE(
      channel_.Submit(Scalars(channel_, kAdd, {{"x", 2000}}), {.timeout = absl::Hours(10)}).ok());
  model_->AwaitWaiting(2);
  Await([&] { return page.busy_deadline_ns.load() != late; });
  EXPECT_LT(page.busy_deadline_ns.load(), late);
  EXPECT_EQ(busy_since(), first);
  model_->LetGo(1000);
  EXPECT_EQ(Answer(channel_), "1001");
  Await([&] { return busy_since() != first; });
  EXPECT_GT(busy_since(), first);
  model_->LetGo(2000);
  EXPECT_EQ(Answer(channel_), "2001");
  Await([&] { return busy_since() == 0; });
  Await([&] { return page.completed.load() == 2; });
}

TEST_F(ConcurrentCallsTest, AHoldIsAnsweredWhenTheLastHasEnded) {
  Serve(2);
  const RawWorker raw(server_, 0);
  Submit(channel_, 1000);
  Submit(channel_, 2000);
  model_->AwaitWaiting(2);
  loop_->Say(Command::Kind::kHold, /*call=*/7);
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/99);
  loop_->WaitFor("removed 99");
  Submit(channel_, 7);
  model_->LetGo(2000);
  EXPECT_EQ(Answer(channel_), "2001");
  EXPECT_FALSE(loop_->HasSaid("held 7"));
  model_->LetGo(1000);
  EXPECT_EQ(Answer(channel_), "1001");
  loop_->WaitFor("held 7");
  EXPECT_EQ(raw.state().taken.load(), 2u);
  loop_->Say(Command::Kind::kServe);
  EXPECT_EQ(Answer(channel_), "8");
}

TEST_F(ConcurrentCallsTest, AChannelGoesWhenItsLastCallHasComeBack) {
  Serve(2);
  Submit(channel_, 1000);
  model_->AwaitWaiting(1);
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/0);
  Submit(channel_, 7);  // nobody takes it any more
  Submit(other_, 8);
  EXPECT_EQ(Answer(other_), "9");
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/99);
  loop_->WaitFor("removed 99");
  EXPECT_FALSE(loop_->HasSaid("removed 0"));
  model_->LetGo(1000);
  loop_->WaitFor("removed 0");
  EXPECT_EQ(RawWorker(server_, 0).state().taken.load(), 1u);
}

TEST_F(ConcurrentCallsTest, AnExitEndsStreamsAndWaitsForRequests) {
  Serve(4);
  Stream waits = OpenItems(channel_, kCollect);
  ASSERT_TRUE(WriteItem(waits, 1).ok());
  Stream counts = OpenCount(channel_, {{"n", 100}}, {.window = 1});
  EXPECT_EQ(ReadText(counts, kLong), "0");
  Submit(other_, 1000);
  model_->AwaitWaiting(1);
  Await([&] { return model_->started.load() == 2; });
  loop_->Say(Command::Kind::kExit);
  EXPECT_EQ(ReadText(waits, kLong), "ABORTED");
  std::string text;
  while ((text = ReadText(counts, kLong)) == "1") {
  }
  EXPECT_EQ(text, "ABORTED");
  model_->LetGo(1000);
  loop_->Exit();
  EXPECT_EQ(Answer(other_), "1001");
  EXPECT_EQ(model_->destroyed.load(), 2);
}

TEST_F(ConcurrentCallsTest, WhatIsThrownIsThatCallsError) {
  Serve(2);
  Submit(channel_, 1000);
  model_->AwaitWaiting(1);
  Submit(channel_, -1);
  EXPECT_EQ(Answer(channel_), "INTERNAL: the model threw: no such number");
  model_->LetGo(1000);
  EXPECT_EQ(Answer(channel_), "1001");
  Stream fails = OpenCount(channel_, {{"n", 3}, {"fail", 1}});
  EXPECT_EQ(ReadText(fails, kLong), "0");
  EXPECT_EQ(ReadText(fails, kLong), "OUT_OF_RANGE");
}

TEST_F(ConcurrentCallsTest, InputsAreKeptBeyondTheAnswer) {
  Serve(2);
  model_->keeps_inputs = true;
  const uint64_t free_bytes = channel_.free_request_bytes();
  Submit(channel_, 1);
  EXPECT_EQ(Answer(channel_), "2");
  EXPECT_LT(channel_.free_request_bytes(), free_bytes);
  model_->DropKept();
  Await([&] {
    channel_.Poll();
    return channel_.free_request_bytes() == free_bytes;
  });
}

TEST_F(ConcurrentCallsTest, StreamsAndRequestsRunSideBySide) {
  Serve(4);
  Stream sums = OpenItems(channel_, kSum);
  Stream more = OpenItems(other_, kSum);
  Stream counts = OpenCount(channel_, {{"n", 200}, {"size", 40}}, {.window = 2});
  int64_t sum = 0;
  for (int64_t x = 0; x < 200; ++x) {
    ASSERT_TRUE(WriteItem(sums, x).ok());
    ASSERT_TRUE(WriteItem(more, 1).ok());
    ASSERT_EQ(ReadText(counts, kLong), std::to_string(x));
    Submit(other_, x);
    ASSERT_EQ(Answer(other_), std::to_string(x + 1));
    ASSERT_EQ(ReadText(more, kLong), std::to_string(x + 1));
    ASSERT_EQ(ReadText(sums, kLong), std::to_string(sum += x));
  }
  EXPECT_EQ(ReadText(counts, kLong), "end");
  ASSERT_TRUE(sums.WritesDone().ok());
  EXPECT_EQ(ReadText(sums, kLong), "end");
  more.Cancel();
  Await([&] { return model_->destroyed.load() == 3; });
}

TEST_F(ConcurrentCallsTest, AResponseThatDoesNotFitIsGivenAgain) {
  Serve(2);
  Stream stream = OpenCount(channel_, {{"n", 3}, {"size", 20'000}}, {.window = 1});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ReadText(stream, kLong), std::to_string(i));
  EXPECT_EQ(ReadText(stream, kLong), "end");
  EXPECT_GT(model_->refused.load(), 0);
}

TEST_F(ConcurrentCallsTest, WhoWaitsForAnItemIsNotBusyAndGoesWithItsCaller) {
  Serve(2);
  Stream stream = OpenItems(channel_, kCollect);
  ASSERT_TRUE(WriteItem(stream, 1).ok());
  const RawWorker raw(server_, 0);
  Await([&] {
    const auto& progress =
        *reinterpret_cast<const ipc::StreamProgress*>(raw.response_block(raw.submission(0)).data());
    return progress.items_taken.load() == 1 && busy_since() == 0;
  });
  loop_->Say(Command::Kind::kRemoveChannel, 0, /*channel=*/0);
  loop_->WaitFor("removed 0");
  EXPECT_EQ(model_->destroyed.load(), 1);
}

// Shapes and their descriptions, from many calls of one method at once.
class DoublingModel final : public FunctionModel {
 public:
  DoublingModel() : FunctionModel(Double) {}
  size_t max_streams() const override { return 4; }
  bool concurrent_calls() const override { return true; }
};

TEST(ConcurrentShapes, EveryAnswerIsItsOwn) {
  FakeServer server;
  Channel channel = server.Open(Small());
  DoublingModel model;
  LoopThread loop(server, model);
  loop.Add(0);
  loop.Say(Command::Kind::kServe);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::pair<Ticket, size_t>> sent;
    for (size_t i = 0; i < 8; ++i) {
      const size_t elements = 1 + (static_cast<size_t>(round) * 7 + i * 13) % 90;
      absl::StatusOr<Ticket> ticket =
          channel.Submit(Vector(channel, elements, static_cast<float>(round)));
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      sent.emplace_back(*ticket, elements);
    }
    for (size_t i = 0; i < sent.size(); ++i) {
      const std::optional<Outcome> outcome = channel.Wait(kLong);
      ASSERT_TRUE(outcome && outcome->response.ok());
      const auto found = std::find_if(
          sent.begin(), sent.end(), [&](const auto& one) { return one.first == outcome->ticket; });
      ASSERT_NE(found, sent.end());
      const std::span<const float> y = outcome->response->output<float>("y");
      ASSERT_EQ(y.size(), found->second);
      for (size_t k = 0; k < y.size(); ++k) {
        ASSERT_EQ(y[k], 2 * (static_cast<float>(round) + static_cast<float>(k)));
      }
    }
  }
}

}  // namespace
}  // namespace baton::test

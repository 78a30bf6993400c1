// Streams between a channel and a worker's end of it, in one process: each step
// of the worker is the test's own, so that what comes before what is certain.
#include "baton/stream.h"

#include <poll.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/channel_layout.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/front/stream_calls.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;

ChannelOptions Small() {
  return {.ring_entries = 16,
          .request_arena_bytes = 256 << 10,
          .response_arena_bytes = 4 << 20,
          .max_handles = 64,
          .first_sequence = ~uint64_t{0} - 20};  // R9: streams across the wrap
}

class StreamTest : public ::testing::Test {
 protected:
  explicit StreamTest(const ChannelOptions& options = Small())
      : options_(options), channel_(server_.Open(options)), worker_(NewWorker(1)) {}
  ~StreamTest() override {
    if (channel_gone_) return;
    worker_->StepAll();
    static_cast<void>(channel_.Poll());
    EXPECT_EQ(channel_.free_request_bytes(), options_.request_arena_bytes);
    EXPECT_EQ(channel_.free_response_bytes(), options_.response_arena_bytes);
    EXPECT_EQ(model_.started.load(), model_.destroyed.load());
  }

  std::unique_ptr<StepWorker> NewWorker(uint64_t generation) {
    return std::make_unique<StepWorker>(server_, 0, generation, model_);
  }
  // Calls add, to see that the channel is well.
  void ExpectServes() {
    ASSERT_TRUE(channel_.Submit(Scalars(channel_, kAdd, {{"x", 41}})).ok());
    worker_->StepAll();
    const std::optional<Outcome> outcome = channel_.Poll();
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(outcome->response.ok()) << outcome->response.status();
    EXPECT_EQ(outcome->response->output<int64_t>("y")[0], 42);
  }

  FakeServer server_{StreamMethods()};
  StreamModel model_;
  const ChannelOptions options_;
  Channel channel_;
  std::unique_ptr<StepWorker> worker_;
  bool channel_gone_ = false;
};

// ---- Responses ---------------------------------------------------------------------------------

TEST_F(StreamTest, TheFirstResponseComesBeforeTheEnd) {
  Stream stream = OpenCount(channel_, {{"n", 3}});
  EXPECT_EQ(ReadText(stream), "nothing");
  ASSERT_TRUE(worker_->Step());  // takes it
  EXPECT_EQ(ReadText(stream), "nothing");
  ASSERT_TRUE(worker_->Step());  // the first response, and no more
  EXPECT_EQ(model_.given.load(), 1);
  EXPECT_EQ(ReadText(stream), "0");
  EXPECT_EQ(ReadText(stream), "nothing");
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "1");
  EXPECT_EQ(ReadText(stream), "2");
  EXPECT_EQ(ReadText(stream), "end");
  EXPECT_EQ(ReadText(stream), "end");
  EXPECT_EQ(model_.destroyed.load(), 1);
}

TEST_F(StreamTest, AnErrorComesAfterWhatWasGivenBeforeIt) {
  Stream stream = OpenCount(channel_, {{"n", 9}, {"fail", 3}});
  worker_->StepAll();
  for (const char* number : {"0", "1", "2"}) EXPECT_EQ(ReadText(stream), number);
  const absl::Status end = stream.TryRead().status();
  EXPECT_TRUE(absl::IsOutOfRange(end)) << end;
  EXPECT_THAT(end.ToString(), HasSubstr("no number 3"));
  EXPECT_EQ(ReadText(stream), "OUT_OF_RANGE");
  ExpectServes();
}

TEST_F(StreamTest, ASlowReaderBoundsTheModel) {
  Stream stream = OpenCount(channel_, {{"n", 100}}, {.window = 2});
  worker_->StepAll();
  EXPECT_EQ(model_.given.load(), 2);
  absl::StatusOr<Stream::ReadResult> first = stream.TryRead();
  absl::StatusOr<Stream::ReadResult> second = stream.TryRead();
  ASSERT_TRUE(first.ok() && second.ok());
  worker_->StepAll();
  EXPECT_EQ(model_.given.load(), 2);  // both are still the reader's
  EXPECT_EQ(first->response.output<int64_t>("y")[0], 0);
  first->response = Response();
  worker_->StepAll();
  EXPECT_EQ(model_.given.load(), 3);
  EXPECT_EQ(second->response.output<int64_t>("y")[0], 1);
  second->response = Response();
  for (int i = 2; i < 100; ++i) {
    worker_->StepAll();
    ASSERT_EQ(ReadText(stream), std::to_string(i));
  }
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "end");
}

TEST_F(StreamTest, AResponseThatDoesNotFitComesInALargerBlock) {
  Stream stream = OpenCount(channel_, {{"n", 5}, {"size", 50'000}}, {.window = 4});
  for (int i = 0; i < 5; ++i) {
    std::string text;
    while ((text = ReadText(stream)) == "nothing") ASSERT_TRUE(worker_->Step());
    EXPECT_EQ(text, std::to_string(i));
  }
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "end");
  EXPECT_EQ(model_.given.load(), 5);
  EXPECT_EQ(model_.refused.load(), 1);  // the other credits were not tried in vain

  Stream next = OpenCount(channel_, {{"n", 1}, {"size", 50'000}}, {.window = 4});
  worker_->StepAll();
  EXPECT_EQ(ReadText(next), "0");
  EXPECT_EQ(model_.refused.load(), 1);
}

TEST_F(StreamTest, AResponseThatFitsNoBlockEndsTheStream) {
  Stream stream = OpenCount(channel_, {{"n", 5}, {"size", 5'000'000}});
  worker_->StepAll();
  const absl::Status end = stream.TryRead().status();
  EXPECT_TRUE(absl::IsResourceExhausted(end)) << end;
  EXPECT_THAT(end.ToString(), HasSubstr("response_arena_bytes"));
  ExpectServes();
}

TEST_F(StreamTest, ResponsesOutliveTheirStream) {
  absl::StatusOr<Stream::ReadResult> kept;
  {
    Stream stream = OpenCount(channel_, {{"n", 100}}, {.window = 4});
    worker_->StepAll();
    kept = stream.TryRead();
  }
  worker_->StepAll();
  ExpectServes();
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ(kept->response.output<int64_t>("y")[0], 0);
}

// ---- Items -------------------------------------------------------------------------------------

TEST_F(StreamTest, AnOutputComesBeforeTheNextInputIsSent) {
  Stream stream = OpenItems(channel_, kSum);
  int64_t sum = 0;
  for (int64_t x = 1; x <= 100; ++x) {
    ASSERT_TRUE(WriteItem(stream, x).ok());
    while (model_.given.load() < x) ASSERT_TRUE(worker_->Step());
    EXPECT_EQ(ReadText(stream), std::to_string(sum += x));
  }
  ASSERT_TRUE(stream.WritesDone().ok());
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "end");
  EXPECT_TRUE(absl::IsFailedPrecondition(WriteItem(stream, 1)));
}

TEST_F(StreamTest, ManyItemsGiveOneResponse) {
  Stream stream = OpenItems(channel_, kCollect, {.window = 4});
  for (int64_t x : {1, 2, 3, 4}) ASSERT_TRUE(WriteItem(stream, x).ok());
  ASSERT_TRUE(stream.WritesDone().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(WriteItem(stream, 5)));
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "10");
  EXPECT_EQ(ReadText(stream), "end");
}

TEST_F(StreamTest, ItemsThatTheModelDoesNotTakeFillTheWindow) {
  Stream stream = OpenItems(channel_, kSum, {.window = 2});
  ASSERT_TRUE(WriteItem(stream, 1).ok());
  ASSERT_TRUE(WriteItem(stream, 2).ok());
  absl::StatusOr<Request> item =
      stream.NewItem({{.name = "x", .dtype = DType::kInt64, .shape = {}}});
  ASSERT_TRUE(item.ok());
  item->input<int64_t>("x")[0] = 3;
  const absl::Status full = stream.TryWrite(*std::move(item));
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  ASSERT_TRUE(item->valid());
  while (model_.given.load() < 2)
    ASSERT_TRUE(worker_->Step());  // takes the second: the first is free
  EXPECT_TRUE(stream.TryWrite(*std::move(item)).ok());
  EXPECT_EQ(ReadText(stream), "1");
  EXPECT_EQ(ReadText(stream), "3");
  while (model_.given.load() < 3) ASSERT_TRUE(worker_->Step());
  EXPECT_EQ(ReadText(stream), "6");
  ASSERT_TRUE(stream.WritesDone().ok());
}

TEST_F(StreamTest, RefusesWhatIsNoItemOfIt) {
  Stream stream = OpenItems(channel_, kSum);
  EXPECT_TRUE(absl::IsInvalidArgument(
      stream.NewItem({{.name = "z", .dtype = DType::kInt64, .shape = {}}}).status()));
  Request request = Scalars(channel_, kAdd, {{"x", 1}});
  EXPECT_TRUE(absl::IsInvalidArgument(stream.TryWrite(std::move(request))));
  absl::StatusOr<Request> item =
      stream.NewItem({{.name = "x", .dtype = DType::kInt64, .shape = {}}});
  ASSERT_TRUE(item.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(channel_.Submit(*std::move(item)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(channel_.OpenStream(*std::move(item)).status()));
  Stream counts = OpenCount(channel_, {{"n", 0}}, {.window = 1});
  EXPECT_TRUE(absl::IsInvalidArgument(
      counts.NewItem({{.name = "x", .dtype = DType::kInt64, .shape = {}}}).status()));
  ASSERT_TRUE(stream.WritesDone().ok());
}

// ---- Limits ------------------------------------------------------------------------------------

TEST_F(StreamTest, TakesItsPlacesOfTheRing) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      channel_.OpenStream(Scalars(channel_, kCount, {{"n", 1}}), {.window = 3}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      channel_.OpenStream(Scalars(channel_, kCount, {{"n", 1}}), {.window = 16}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(channel_.OpenStream(Scalars(channel_, kAdd, {{"x", 1}})).status()));
  Stream stream = OpenCount(channel_, {{"n", 1}}, {.window = 8});  // 9 of 16
  Request second = Scalars(channel_, kCount, {{"n", 1}});
  EXPECT_TRUE(
      absl::IsResourceExhausted(channel_.OpenStream(std::move(second), {.window = 8}).status()));
  EXPECT_TRUE(second.valid());
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(channel_.Submit(Scalars(channel_, kAdd, {{"x", i}})).ok());
  }
  Request full = Scalars(channel_, kAdd, {{"x", 1}});
  EXPECT_TRUE(absl::IsResourceExhausted(channel_.Submit(std::move(full)).status()));
  worker_->StepAll();
  for (int i = 0; i < 7; ++i) EXPECT_TRUE(channel_.Poll()->response.ok());
  EXPECT_EQ(ReadText(stream), "0");
  EXPECT_EQ(ReadText(stream), "end");
  EXPECT_TRUE(channel_.OpenStream(std::move(second), {.window = 8}).ok());
}

// ---- Ends --------------------------------------------------------------------------------------

TEST_F(StreamTest, ACancelReachesTheModel) {
  Stream stream = OpenCount(channel_, {{"n", 100}}, {.window = 4});
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "0");
  stream.Cancel();
  EXPECT_EQ(ReadText(stream), "1");  // had arrived
  EXPECT_EQ(model_.destroyed.load(), 0);
  worker_->StepAll();
  EXPECT_EQ(model_.destroyed.load(), 1);
  EXPECT_EQ(ReadText(stream), "2");
  EXPECT_EQ(ReadText(stream), "3");
  EXPECT_EQ(ReadText(stream), "CANCELLED");
  EXPECT_EQ(model_.given.load(), 4);
  ExpectServes();
}

TEST_F(StreamTest, ItsGoingIsACancel) {
  for (int steps = 0; steps < 4; ++steps) {
    {
      Stream stream = OpenCount(channel_, {{"n", 100}}, {.window = 2});
      for (int i = 0; i < steps; ++i) ASSERT_TRUE(worker_->Step());
      const std::string expected = steps < 3 ? "nothing" : "0";
      EXPECT_EQ(steps < 2 || steps == 3 ? ReadText(stream) : "nothing", expected);
    }
    worker_->StepAll();
    EXPECT_EQ(model_.destroyed.load(), steps);  // the first was not started
  }
  ExpectServes();
}

TEST_F(StreamTest, ItsTimeEnds) {
  Stream stream =
      OpenCount(channel_, {{"n", 100}}, {.window = 2, .timeout = absl::Milliseconds(1)});
  EXPECT_EQ(ReadText(stream, kLong), "DEADLINE_EXCEEDED");
  EXPECT_EQ(ReadText(stream), "DEADLINE_EXCEEDED");
  worker_->StepAll();
  EXPECT_EQ(model_.started.load(), 0);
  ExpectServes();
}

TEST_F(StreamTest, ItsTimeEndsWhileTheModelIsAtIt) {
  Stream stream = OpenCount(channel_, {{"n", 100}}, {.window = 2, .timeout = absl::Seconds(3)});
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "0");
  EXPECT_EQ(ReadText(stream), "1");
  std::string text;
  while ((text = ReadText(stream, kLong)) != "DEADLINE_EXCEEDED") ASSERT_EQ(text, "nothing");
  worker_->StepAll();
  EXPECT_EQ(model_.destroyed.load(), 1);
  ExpectServes();
}

TEST_F(StreamTest, AWorkersDeathLeavesWhatItHadGiven) {
  Stream stream = OpenCount(channel_, {{"n", 100}}, {.window = 4});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(worker_->Step());  // taken, 0, 1
  worker_.reset();
  server_.ShowReaped(1);
  EXPECT_EQ(ReadText(stream), "0");
  EXPECT_EQ(ReadText(stream, kLong), "1");
  EXPECT_EQ(ReadText(stream, kLong), "ABORTED");
  worker_ = NewWorker(2);
  ExpectServes();
}

TEST_F(StreamTest, ItemsOfADeadWorkerAreFree) {
  Stream stream = OpenItems(channel_, kSum, {.window = 4});
  for (int64_t x : {1, 2, 3}) ASSERT_TRUE(WriteItem(stream, x).ok());
  while (model_.given.load() < 2) ASSERT_TRUE(worker_->Step());
  worker_.reset();
  server_.ShowReaped(1);
  EXPECT_EQ(ReadText(stream), "1");
  EXPECT_EQ(ReadText(stream, kLong), "3");
  EXPECT_EQ(ReadText(stream, kLong), "ABORTED");
  EXPECT_TRUE(absl::IsAborted(WriteItem(stream, 4)));
  worker_ = NewWorker(2);
  ExpectServes();
}

TEST_F(StreamTest, OneThatWasNotStartedIsServedByTheNextWorker) {
  Stream stream = OpenItems(channel_, kSum);
  ASSERT_TRUE(WriteItem(stream, 5).ok());
  worker_.reset();
  server_.ShowReaped(1);
  EXPECT_EQ(ReadText(stream), "nothing");
  worker_ = NewWorker(2);
  while (model_.given.load() < 1) ASSERT_TRUE(worker_->Step());
  EXPECT_EQ(ReadText(stream), "5");
  ASSERT_TRUE(stream.WritesDone().ok());
  worker_->StepAll();
  EXPECT_EQ(ReadText(stream), "end");
}

TEST_F(StreamTest, TheServersEndEndsIt) {
  Stream started = OpenCount(channel_, {{"n", 100}}, {.window = 2});
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(worker_->Step());
  Stream waiting = OpenCount(channel_, {{"n", 100}}, {.window = 2});
  channel_gone_ = true;
  server_.Die();
  EXPECT_EQ(ReadText(started, kLong), "0");
  EXPECT_EQ(ReadText(started, kLong), "ABORTED");
  EXPECT_EQ(ReadText(waiting, kLong), "UNAVAILABLE");
}

TEST_F(StreamTest, OutlivesItsChannel) {
  Stream stream = OpenCount(channel_, {{"n", 100}});
  worker_->StepAll();
  channel_gone_ = true;
  { const Channel gone = std::move(channel_); }
  EXPECT_EQ(ReadText(stream), "FAILED_PRECONDITION");
  EXPECT_TRUE(absl::IsFailedPrecondition(stream.WritesDone()));
}

// ---- Waiting -----------------------------------------------------------------------------------

TEST(StreamWaiting, EachSideWakesTheOther) {
  FakeServer server(StreamMethods());
  StreamModel model;
  Channel channel = server.Open(Small());
  WorkerThread worker(server, 0, 1, model);  // sleeps for ever where nobody wakes it
  {
    Stream stream = OpenCount(channel, {{"n", 2'000}}, {.window = 1});
    for (int i = 0; i < 2'000; ++i) ASSERT_EQ(ReadText(stream, kLong), std::to_string(i));
    EXPECT_EQ(ReadText(stream, kLong), "end");
  }
  Stream stream = OpenItems(channel, kSum, {.window = 2});
  int64_t sum = 0;
  for (int64_t x = 0; x < 2'000; ++x) {
    ASSERT_TRUE(WriteItem(stream, x).ok());
    ASSERT_EQ(ReadText(stream, kLong), std::to_string(sum += x));
  }
  ASSERT_TRUE(stream.WritesDone().ok());
  EXPECT_EQ(ReadText(stream, kLong), "end");
}

TEST(StreamWaiting, AWriteWaitsForRoom) {
  FakeServer server(StreamMethods());
  StreamModel model;
  Channel channel = server.Open(Small());
  WorkerThread worker(server, 0, 1, model);
  Stream stream = OpenItems(channel, kCollect, {.window = 1});
  for (int64_t x = 1; x <= 2'000; ++x) ASSERT_TRUE(WriteItem(stream, x).ok());
  ASSERT_TRUE(stream.WritesDone().ok());
  EXPECT_EQ(ReadText(stream, kLong), std::to_string(2'000 * 2'001 / 2));
  EXPECT_EQ(ReadText(stream, kLong), "end");
}

class StreamEventLoop : public StreamTest {
 protected:
  StreamEventLoop() : StreamTest(WithEvent()) {}
  static ChannelOptions WithEvent() {
    ChannelOptions options = Small();
    options.event_fd = true;
    return options;
  }
  bool Signalled() {
    pollfd fd{.fd = channel_.event_fd(), .events = POLLIN, .revents = 0};
    return ::poll(&fd, 1, 0) == 1;
  }
};

TEST_F(StreamEventLoop, HearsOfResponsesAndOfTheEnd) {
  Stream stream = OpenCount(channel_, {{"n", 1}});
  ASSERT_FALSE(channel_.Arm());
  EXPECT_FALSE(Signalled());
  ASSERT_TRUE(worker_->Step());
  ASSERT_TRUE(worker_->Step());
  EXPECT_TRUE(Signalled());
  channel_.ClearEvent();
  EXPECT_TRUE(channel_.Arm());  // a response is there
  EXPECT_EQ(ReadText(stream), "0");
  ASSERT_FALSE(channel_.Arm());
  worker_->StepAll();
  EXPECT_TRUE(Signalled());
  channel_.ClearEvent();
  EXPECT_TRUE(channel_.Arm());  // the end is
  EXPECT_EQ(ReadText(stream), "end");
  EXPECT_FALSE(channel_.Arm());
  channel_.ClearEvent();
}

}  // namespace
}  // namespace baton::test

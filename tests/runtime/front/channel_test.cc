// A channel and a worker's end of it, in one process: what is asked is
// answered, whatever the order, and everything that is full, too large, too
// late or no longer wanted ends with a status of its own.
#include "baton/channel.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/futex.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr uint64_t k2To32 = uint64_t{1} << 32;

ChannelOptions Small() {
  return {.ring_entries = 8,
          .request_arena_bytes = 64 << 10,
          .response_arena_bytes = 4 << 20,
          .max_handles = 32};
}

// The answer to Vector(channel, elements, first) from Double.
void ExpectDoubled(const Response& response, size_t elements, float first) {
  const std::span<const float> y = response.output<float>("y");
  ASSERT_EQ(y.size(), elements);
  for (size_t i = 0; i < elements; ++i) ASSERT_EQ(y[i], 2 * (first + static_cast<float>(i)));
}

// Everything that was loaned is back.
void ExpectAllFree(const Channel& channel, const ChannelOptions& options) {
  EXPECT_EQ(channel.free_request_bytes(), options.request_arena_bytes);
  EXPECT_EQ(channel.free_response_bytes(), options.response_arena_bytes);
  EXPECT_EQ(channel.outstanding(), 0u);
}

// ---- Answers -----------------------------------------------------------------------------------

struct Setting {
  const char* name;
  ChannelOptions::Backing backing;
  uint64_t first_sequence;
};

class ChannelWith : public ::testing::TestWithParam<Setting> {
 protected:
  ChannelWith() : options_(Small()) {
    options_.backing = GetParam().backing;
    options_.first_sequence = GetParam().first_sequence;
  }
  ChannelOptions options_;
  FakeServer server_;
  FunctionModel model_{Double};
};

TEST_P(ChannelWith, Calls) {
  Channel channel = server_.Open(options_);
  WorkerThread worker(server_, 0, 7, model_);
  for (int i = 0; i < 200; ++i) {  // R9: many laps, past the wrap of the sequences
    absl::StatusOr<Response> response = channel.Call(Vector(channel, 10, static_cast<float>(i)));
    ASSERT_TRUE(response.ok()) << response.status();
    ExpectDoubled(*response, 10, static_cast<float>(i));
    EXPECT_EQ(response->generation(), 7u);  // A17
    EXPECT_EQ(response->outputs().size(), 1u);
    EXPECT_EQ(response->output("z"), nullptr);
    EXPECT_TRUE(response->output<int32_t>("y").empty());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(response->outputs()[0].bytes.data()) % 128, 0u);
  }
  ExpectAllFree(channel, options_);
}

TEST_P(ChannelWith, SubmitsAndPollsInOrder) {
  Channel channel = server_.Open(options_);
  StepWorker worker(server_, 0, 1, model_);
  for (int round = 0; round < 20; ++round) {
    std::vector<Ticket> tickets;
    for (int i = 0; i < 8; ++i) {
      absl::StatusOr<Ticket> ticket = channel.Submit(Vector(channel, 4, static_cast<float>(i)));
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      tickets.push_back(*ticket);
    }
    EXPECT_EQ(channel.outstanding(), 8u);
    EXPECT_FALSE(channel.Poll());
    worker.StepAll();
    for (int i = 0; i < 8; ++i) {
      std::optional<Outcome> outcome = channel.Poll();
      ASSERT_TRUE(outcome);
      EXPECT_EQ(outcome->ticket, tickets[static_cast<size_t>(i)]);
      ASSERT_TRUE(outcome->response.ok()) << outcome->response.status();
      ExpectDoubled(*outcome->response, 4, static_cast<float>(i));
    }
    EXPECT_FALSE(channel.Poll());
  }
  EXPECT_EQ(model_.runs(), 160);
  ExpectAllFree(channel, options_);
}

TEST_P(ChannelWith, SurvivesItsWorker) {
  Channel channel = server_.Open(options_);
  for (uint64_t generation = 1; generation < 5; ++generation) {
    StepWorker worker(server_, 0, generation, model_);
    for (int i = 0; i < 13; ++i) {
      ASSERT_TRUE(channel.Submit(Vector(channel, 3, 1)).ok());
      ASSERT_TRUE(worker.Step());
      const std::optional<Outcome> outcome = channel.Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
      EXPECT_EQ(outcome->response->generation(), generation);
    }
    server_.ShowReaped(generation);
  }
  ExpectAllFree(channel, options_);
}

// Each generation names its descriptions anew, and a slot gets the block that it had: what an
// answer looks like is its own generation's all the same.
TEST_P(ChannelWith, AnswersLookAsTheirGenerationSays) {
  Channel channel = server_.Open(options_);
  for (uint64_t generation = 1; generation < 5; ++generation) {
    FunctionModel model([&](std::span<const TensorView>, loader::OutputSink& outputs) {
      const int64_t elements[] = {static_cast<int64_t>(generation)};
      const absl::StatusOr<std::span<std::byte>> y = outputs.Allocate(0, elements);
      if (!y.ok()) return y.status();
      std::fill_n(reinterpret_cast<float*>(y->data()), generation, static_cast<float>(generation));
      return absl::OkStatus();
    });
    StepWorker worker(server_, 0, generation, model);
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(channel.Submit(Vector(channel, 3, 1)).ok());
      ASSERT_TRUE(worker.Step());
      const std::optional<Outcome> outcome = channel.Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
      const std::span<const float> y = outcome->response->output<float>("y");
      EXPECT_EQ(y.size(), generation);
      EXPECT_THAT(y, ::testing::Each(static_cast<float>(generation)));
    }
    server_.ShowReaped(generation);
  }
  ExpectAllFree(channel, options_);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, ChannelWith,
    ::testing::Values(Setting{"PosixShm", ChannelOptions::Backing::kPosixShm, 0},
                      Setting{"Memfd", ChannelOptions::Backing::kMemfd, 0},
                      Setting{"Near2To32", ChannelOptions::Backing::kPosixShm, k2To32 - 3},
                      Setting{"Near2To64", ChannelOptions::Backing::kPosixShm, uint64_t{0} - 3},
                      Setting{"Near2To63", ChannelOptions::Backing::kMemfd,
                              (uint64_t{1} << 63) - 3}),
    [](const auto& info) { return info.param.name; });

class ChannelTest : public ::testing::Test {
 protected:
  void Open(const ChannelOptions& options) { channel_.emplace(server_.Open(options)); }
  Channel& channel() { return *channel_; }
  void Serve(uint64_t generation = 1) { worker_.emplace(server_, 0, generation, model_); }

  // The next outcome; there must be one.
  Outcome Next() {
    std::optional<Outcome> outcome = channel().Wait(kLong);
    if (!outcome) {
      ADD_FAILURE() << "no outcome";
      return {.ticket = {}, .response = absl::InternalError("no outcome")};
    }
    return *std::move(outcome);
  }

  ChannelOptions options_ = Small();
  FakeServer server_;
  FunctionModel model_{Double};
  std::optional<StepWorker> worker_;
  std::optional<Channel> channel_;
};

TEST_F(ChannelTest, ResponsesAreReleasedInAnyOrder) {
  Open(options_);
  Serve();
  std::vector<Response> leases;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(
          channel().Submit(Vector(channel(), 1 + static_cast<size_t>(round % 7), float(i))).ok());
    }
    worker_->StepAll();
    for (int i = 0; i < 8; ++i) leases.push_back(*Next().response);
    // Every third, from the middle.
    for (size_t i = leases.size(); i-- > 0;) {
      if (i % 3 == 1 || leases.size() > 16) leases.erase(leases.begin() + static_cast<long>(i));
    }
    for (const Response& lease : leases) ASSERT_TRUE(lease.valid());
  }
  leases.clear();
  ExpectAllFree(channel(), options_);
}

TEST_F(ChannelTest, LeasesKeepTheirBytes) {
  Open(options_);
  Serve();
  ASSERT_TRUE(channel().Submit(Vector(channel(), 5, 100)).ok());
  worker_->Step();
  const Response lease = *Next().response;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(channel().Submit(Vector(channel(), 5, 1)).ok());
    worker_->Step();
    ASSERT_TRUE(Next().response.ok());
  }
  ExpectDoubled(lease, 5, 100);
}

TEST_F(ChannelTest, LeasesAndRequestsOutliveChannelWorkerAndServer) {
  auto server = std::make_unique<FakeServer>();
  std::optional<Channel> channel(server->Open(options_));
  std::optional<StepWorker> worker(std::in_place, *server, 0, 1, model_);
  ASSERT_TRUE(channel->Submit(Vector(*channel, 5, 1)).ok());
  worker->Step();
  Response lease = *std::move(channel->Poll()->response);
  Request request = Vector(*channel, 5, 9);
  // An answer that nobody takes is nobody's leak.
  ASSERT_TRUE(channel->Submit(Vector(*channel, 5, 1)).ok());
  worker->Step();
  channel.reset();
  worker.reset();
  server.reset();
  ExpectDoubled(lease, 5, 1);
  EXPECT_EQ(request.input<float>("x")[0], 9);
  request = Request();
  lease = Response();
}

TEST_F(ChannelTest, ClosingTellsTheServer) {
  Open(options_);
  channel_.reset();
  while (server_.closed_channels() == 0) std::this_thread::yield();
  EXPECT_EQ(server_.closed_channels(), 1);
}

TEST_F(ChannelTest, AnswersThatNobodyTookGoWithTheChannel) {
  // More shapes than layouts are kept: each answer has one of its own.
  options_.max_handles = 8;
  Open(options_);
  Serve();
  for (int64_t elements = 1; elements < 200; ++elements) {
    ASSERT_TRUE(channel().Submit(Vector(channel(), static_cast<size_t>(elements), 1)).ok());
    worker_->Step();
    if (elements < 196) {
      ASSERT_TRUE(Next().response.ok());
    }
  }
  channel_.reset();  // LeakSanitizer has the last word
}

TEST_F(ChannelTest, AnOpenThatComesTooLateIsClosedAgain) {
  server_.HoldAnswers();
  FrontOptions impatient;
  impatient.connect_timeout = absl::Milliseconds(50);
  const std::shared_ptr<internal::Session> session = server_.Connect(impatient);
  const absl::Status status = internal::ChannelCore::OpenChannel(session, options_).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  server_.ReleaseAnswers();
  while (server_.closed_channels() == 0) std::this_thread::yield();
}

// ---- What does not fit -------------------------------------------------------------------------

TEST_F(ChannelTest, WrongRequestsSayWhatTheModelTakes) {
  Open(options_);
  const auto refused = [&](TensorSpec spec) {
    const absl::Status status = channel().NewRequest(std::span(&spec, 1)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused({"z", DType::kFloat32, {4}}), HasSubstr("no such tensor; it has: x"));
  EXPECT_THAT(refused({"x", DType::kInt32, {4}}), HasSubstr("x: float32[?]"));
  EXPECT_THAT(refused({"x", DType::kFloat32, {4, 4}}), HasSubstr("x: float32[?]"));
  EXPECT_THAT(refused({"x", DType::kFloat32, {-1}}), HasSubstr("every dimension"));
  EXPECT_THAT(refused({"x", DType::kFloat32, {int64_t{1} << 62}}), HasSubstr("dimension"));
  EXPECT_THAT(refused({"x", DType::kFloat32, {1 << 20}}), HasSubstr("request_arena_bytes"));
  EXPECT_TRUE(absl::IsInvalidArgument(channel().NewRequest({}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(channel().NewRequest().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(channel().Loan(RequestPlan()).status()));
  ExpectAllFree(channel(), options_);
}

// A28: at once, with a status that says so, and the request is still the
// caller's.
TEST_F(ChannelTest, AFullRingRejectsAtOnce) {
  Open(options_);
  Serve();
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(channel().Submit(Vector(channel(), 4, 1)).ok());
  Request ninth = Vector(channel(), 4, 5);
  const absl::Status full = channel().Submit(std::move(ninth)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()), HasSubstr("ring is full"));
  ASSERT_TRUE(ninth.valid());
  EXPECT_TRUE(absl::IsResourceExhausted(channel().Call(std::move(ninth)).status()));
  ASSERT_TRUE(ninth.valid());
  // One answered makes room for one.
  worker_->Step();
  ASSERT_TRUE(channel().Submit(std::move(ninth)).ok());
  EXPECT_FALSE(ninth.valid());
  worker_->StepAll();
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(Next().response.ok());
  ExpectAllFree(channel(), options_);
}

TEST_F(ChannelTest, EveryLimitIsAStatus) {  // R10
  options_.max_handles = 3;
  Open(options_);
  std::vector<Request> requests;
  for (int i = 0; i < 3; ++i) requests.push_back(Vector(channel(), 1, 1));
  const TensorSpec one{"x", DType::kFloat32, {1}};
  EXPECT_THAT(std::string(channel().NewRequest(std::span(&one, 1)).status().message()),
              HasSubstr("handles"));
  requests.clear();
  const TensorSpec large{"x", DType::kFloat32, {10'000}};
  requests.push_back(*channel().NewRequest(std::span(&large, 1)));
  const absl::Status full = channel().NewRequest(std::span(&large, 1)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()), HasSubstr("arena"));
}

TEST_F(ChannelTest, AHandleOfAnotherChannelIsRefused) {
  Open(options_);
  Channel other = server_.Open(options_);
  Request request = Vector(other, 1, 1);
  EXPECT_TRUE(absl::IsInvalidArgument(channel().Submit(std::move(request)).status()));
  EXPECT_TRUE(request.valid());
  EXPECT_TRUE(absl::IsInvalidArgument(channel().Call(Request()).status()));
}

TEST_F(ChannelTest, ATooSmallResponseBlockIsAskedForAgainWithTheRightSize) {
  Open(options_);
  Serve();
  const TensorSpec spec{"x", DType::kFloat32, {1000}};
  const RequestPlan plan = *channel().Plan(std::span(&spec, 1), /*response_bytes=*/128);
  Request request = *channel().Loan(plan);
  std::ranges::fill(request.input<float>("x"), 3.0f);
  const Ticket ticket = *channel().Submit(std::move(request));
  worker_->Step();
  EXPECT_FALSE(channel().Poll()) << "answered without its results";
  EXPECT_TRUE(worker_->Step()) << "not asked again";
  Outcome outcome = Next();
  EXPECT_EQ(outcome.ticket, ticket);
  ASSERT_TRUE(outcome.response.ok()) << outcome.response.status();
  EXPECT_EQ(outcome.response->output<float>("y").size(), 1000u);
  EXPECT_EQ(outcome.response->output<float>("y")[999], 6.0f);
  EXPECT_EQ(model_.runs(), 2);
  outcome.response = absl::CancelledError();
  ExpectAllFree(channel(), options_);
  // The next of these shapes, planned anew or not, starts with what this one needed.
  for (const RequestPlan& next :
       {plan, *channel().Plan(std::span(&spec, 1), /*response_bytes=*/128)}) {
    const int runs = model_.runs();
    ASSERT_TRUE(channel().Submit(*channel().Loan(next)).ok());
    worker_->StepAll();
    const std::optional<Outcome> learned = channel().Poll();
    ASSERT_TRUE(learned) << "asked twice again";
    EXPECT_TRUE(learned->response.ok());
    EXPECT_EQ(model_.runs(), runs + 1);
  }
}

TEST_F(ChannelTest, AResultLargerThanTheArenaIsAClearStatus) {
  FunctionModel large([](std::span<const TensorView>, loader::OutputSink& outputs) {
    const int64_t shape[] = {1 << 20};
    return outputs.Allocate(0, shape).status();
  });
  Open(options_);
  StepWorker worker(server_, 0, 1, large);
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1)).ok());
  worker.StepAll();
  const Outcome outcome = Next();
  EXPECT_TRUE(absl::IsResourceExhausted(outcome.response.status()));
  EXPECT_THAT(std::string(outcome.response.status().message()), HasSubstr("response_arena_bytes"));
  EXPECT_EQ(large.runs(), 1);
  ExpectAllFree(channel(), options_);
}

TEST_F(ChannelTest, AResultForWhichThereIsNoRoomNowIsAClearStatus) {
  options_.response_arena_bytes = 64 << 10;
  Open(options_);
  Serve();
  const TensorSpec spec{"x", DType::kFloat32, {8000}};
  const RequestPlan plan = *channel().Plan(std::span(&spec, 1), /*response_bytes=*/128);
  Request request = *channel().Loan(plan);
  // A lease on most of the arena, so that 32,000 bytes are not to be had.
  const TensorSpec small{"x", DType::kFloat32, {1}};
  const RequestPlan big = *channel().Plan(std::span(&small, 1), /*response_bytes=*/50'000);
  const Request held = *channel().Loan(big);
  ASSERT_TRUE(channel().Submit(std::move(request)).ok());
  worker_->StepAll();
  const Outcome outcome = Next();
  EXPECT_TRUE(absl::IsResourceExhausted(outcome.response.status()));
  EXPECT_THAT(std::string(outcome.response.status().message()), HasSubstr("release responses"));
}

TEST_F(ChannelTest, TheModelsOwnErrorsArriveWithTheirWords) {
  Open(options_);
  FunctionModel failing([](std::span<const TensorView> inputs, loader::OutputSink&) {
    const float which = inputs[0].As<float>()[0];
    if (which == 1) return absl::InvalidArgumentError("no cat\x1b[2J in this picture");
    if (which == 2) throw std::runtime_error("out of cats");
    if (which == 3) throw 3;  // NOLINT
    if (which == 4) return absl::ResourceExhaustedError("too many cats");
    return absl::OkStatus();  // with no output
  });
  StepWorker worker(server_, 0, 1, failing);
  const auto ask = [&](float which) {
    EXPECT_TRUE(channel().Submit(Vector(channel(), 1, which)).ok());
    worker.StepAll();
    return Next().response.status();
  };
  absl::Status status = ask(1);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message(), "no cat?[2J in this picture");
  status = ask(2);
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("out of cats"));
  EXPECT_TRUE(absl::IsInternal(ask(3)));
  status = ask(4);
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("too many cats"));
  status = ask(5);
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("no output 'y'"));
  ExpectAllFree(channel(), options_);
}

// ---- Deadlines and cancellation ----------------------------------------------------------------

// A model that is stuck until it is let go.
class Gate {
 public:
  absl::Status Pass(std::span<const TensorView> inputs, loader::OutputSink& outputs) {
    std::unique_lock lock(mutex_);
    ++inside_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    --inside_;
    return Double(inputs, outputs);
  }
  void WaitUntilInside() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return inside_ > 0; });
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int inside_ = 0;
  bool open_ = false;
};

// A32: the front's own clock ends it, whatever the worker does.
TEST_F(ChannelTest, DeadlinesHoldWithAStuckModel) {
  Gate gate;
  FunctionModel stuck([&](auto inputs, auto& outputs) { return gate.Pass(inputs, outputs); });
  Open(options_);
  WorkerThread worker(server_, 0, 1, stuck);
  const CallOptions soon{.timeout = absl::Milliseconds(20)};
  const absl::Status called = channel().Call(Vector(channel(), 1, 1), soon).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(called)) << called;
  gate.WaitUntilInside();
  // One that the worker never saw, by Wait; and one by Poll alone.
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1), soon).ok());
  const Outcome waited = Next();
  EXPECT_TRUE(absl::IsDeadlineExceeded(waited.response.status()));
  EXPECT_THAT(std::string(waited.response.status().message()), HasSubstr("had not been started"));
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1), soon).ok());
  const int64_t deadline = ipc::MonotonicNs() + 20'000'000;
  while (ipc::MonotonicNs() <= deadline) std::this_thread::yield();
  const std::optional<Outcome> polled = channel().Poll();  // the first Poll after it notices
  ASSERT_TRUE(polled);
  EXPECT_TRUE(absl::IsDeadlineExceeded(polled->response.status()));
  // R4: none of their blocks is loaned again while the worker may write to it.
  EXPECT_LT(channel().free_request_bytes(), options_.request_arena_bytes);
  EXPECT_LT(channel().free_response_bytes(), options_.response_arena_bytes);
  gate.Open();
  while (channel().free_response_bytes() != options_.response_arena_bytes) {
    EXPECT_FALSE(channel().Poll()) << "a request that ended twice";
  }
  ExpectAllFree(channel(), options_);
  EXPECT_EQ(stuck.runs(), 1) << "the worker ran what had expired";
}

TEST_F(ChannelTest, TheWorkerDropsWhatExpiredWhileItWaited) {
  Open(options_);
  Serve();
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1), {.timeout = absl::Nanoseconds(1)}).ok());
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1), {.timeout = kLong}).ok());
  worker_->StepAll();
  EXPECT_EQ(model_.runs(), 1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(Next().response.status()));
  EXPECT_TRUE(Next().response.ok());
  EXPECT_EQ(server_.worker_page().expired.load(), 1u);
}

// A caller who never polls, only calls, gets back what calls before it left.
TEST_F(ChannelTest, CallsThatTimedOutDoNotEatTheChannel) {
  options_.ring_entries = 2;
  Open(options_);
  Serve();
  const CallOptions soon{.timeout = absl::Milliseconds(1)};
  for (int round = 0; round < 5; ++round) {
    // Two of 32,000 bytes fill the arena, and the ring.
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(
          absl::IsDeadlineExceeded(channel().Call(Vector(channel(), 8000, 1), soon).status()));
    }
    const TensorSpec spec{"x", DType::kFloat32, {8000}};
    ASSERT_TRUE(absl::IsResourceExhausted(channel().NewRequest(std::span(&spec, 1)).status()));
    worker_->StepAll();
  }
  const TensorSpec spec{"x", DType::kFloat32, {8000}};
  EXPECT_TRUE(channel().NewRequest(std::span(&spec, 1)).ok());
}

TEST_F(ChannelTest, CallsWhoseWorkerDiedDoNotEatTheRing) {
  options_.ring_entries = 2;
  Open(options_);
  const CallOptions soon{.timeout = absl::Milliseconds(1)};
  {
    const StepWorker worker(server_, 0, 1, model_);
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(absl::IsDeadlineExceeded(channel().Call(Vector(channel(), 1, 1), soon).status()));
    }
    // It took both, and died.
    RawWorker raw(server_, 0);
    raw.state().taken.store(2);
  }
  Request request = Vector(channel(), 1, 1);
  ASSERT_TRUE(absl::IsResourceExhausted(channel().Submit(std::move(request), soon).status()));
  server_.ShowReaped(1);
  EXPECT_TRUE(channel().Submit(std::move(request), soon).ok());
}

TEST_F(ChannelTest, ACancelledRequestIsSkipped) {  // A32
  Open(options_);
  Serve();
  std::vector<Ticket> tickets;
  for (int i = 0; i < 6; ++i) tickets.push_back(*channel().Submit(Vector(channel(), 1, float(i))));
  for (const int i : {1, 2, 5}) {
    EXPECT_TRUE(channel().Cancel(tickets[static_cast<size_t>(i)]).ok());
  }
  EXPECT_TRUE(absl::IsNotFound(channel().Cancel(tickets[1])));
  EXPECT_EQ(channel().outstanding(), 3u);
  worker_->StepAll();
  EXPECT_EQ(model_.runs(), 3);
  for (const int i : {0, 3, 4}) {
    const Outcome outcome = Next();
    EXPECT_EQ(outcome.ticket, tickets[static_cast<size_t>(i)]);
    ExpectDoubled(*outcome.response, 1, float(i));
  }
  EXPECT_FALSE(channel().Poll());
  EXPECT_TRUE(absl::IsNotFound(channel().Cancel(tickets[0])));
  EXPECT_TRUE(absl::IsNotFound(channel().Cancel({.id = 12345})));
  ExpectAllFree(channel(), options_);
  // The same blocks, loaned again, are not cancelled.
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1)).ok());
  worker_->StepAll();
  EXPECT_TRUE(Next().response.ok());
}

TEST_F(ChannelTest, CancelsAreSeenManyLapsLater) {
  Open(options_);
  Serve();
  for (int lap = 0; lap < 40; ++lap) {
    const int runs = model_.runs();
    const Ticket first = *channel().Submit(Vector(channel(), 1, 1));
    const Ticket second = *channel().Submit(Vector(channel(), 1, 2));
    ASSERT_TRUE(channel().Cancel(lap % 2 == 0 ? first : second).ok());
    worker_->StepAll();
    ASSERT_EQ(model_.runs(), runs + 1) << "lap " << lap;
    EXPECT_EQ(Next().ticket, lap % 2 == 0 ? second : first);
    for (int i = 0; i < lap; ++i) {
      ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1)).ok());
      worker_->Step();
      ASSERT_TRUE(Next().response.ok());
    }
  }
}

TEST_F(ChannelTest, AWorkerThatTakesOverSkipsWhatWasCancelledBefore) {
  Open(options_);
  const Ticket first = *channel().Submit(Vector(channel(), 1, 1));
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 2)).ok());
  ASSERT_TRUE(channel().Cancel(first).ok());
  Serve(2);
  worker_->StepAll();
  EXPECT_EQ(model_.runs(), 1);
  ExpectDoubled(*Next().response, 1, 2);
}

// R4: a worker that is at it keeps its blocks, cancelled or not.
TEST_F(ChannelTest, TheBlocksOfARunningRequestStayItsOwn) {
  Gate gate;
  FunctionModel stuck([&](auto inputs, auto& outputs) { return gate.Pass(inputs, outputs); });
  Open(options_);
  WorkerThread worker(server_, 0, 1, stuck);
  const Ticket ticket = *channel().Submit(Vector(channel(), 1, 1));
  gate.WaitUntilInside();
  const uint64_t requests = channel().free_request_bytes();
  const uint64_t responses = channel().free_response_bytes();
  ASSERT_TRUE(channel().Cancel(ticket).ok());
  EXPECT_EQ(channel().outstanding(), 0u);
  EXPECT_FALSE(channel().Poll());
  EXPECT_EQ(channel().free_request_bytes(), requests);
  EXPECT_EQ(channel().free_response_bytes(), responses);
  gate.Open();
  while (channel().free_request_bytes() != options_.request_arena_bytes) {
    EXPECT_FALSE(channel().Poll());
  }
  ExpectAllFree(channel(), options_);
}

// ---- Holds -------------------------------------------------------------------------------------

TEST_F(ChannelTest, AHoldLongerThanTheDeadlineFailsAtOnce) {
  Open(options_);
  const int64_t now = ipc::MonotonicNs();
  server_.ShowState(ipc::ServerState::kConfirming, now, /*gap_ns=*/60'000'000'000);
  Request request = Vector(channel(), 1, 1);
  const absl::Status status =
      channel().Submit(std::move(request), {.timeout = absl::Seconds(1)}).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("CONFIRMING"));
  EXPECT_TRUE(request.valid());
  // One that can wait waits, and so does every one once the hold is over.
  EXPECT_TRUE(channel().Submit(std::move(request), {.timeout = absl::Minutes(5)}).ok());
  server_.ShowState(ipc::ServerState::kServing);
  EXPECT_TRUE(channel().Submit(Vector(channel(), 1, 1), {.timeout = absl::Seconds(1)}).ok());
}

// ---- The server's end --------------------------------------------------------------------------

TEST_F(ChannelTest, TheServersEndFailsWhatWaitsAndSaysWhatWasStarted) {
  Open(options_);
  RawWorker raw(server_, 0);
  const Ticket started = *channel().Submit(Vector(channel(), 1, 1));
  const Ticket queued = *channel().Submit(Vector(channel(), 1, 2));
  raw.state().taken.store(1);
  server_.Die();
  const Outcome first = Next();
  EXPECT_EQ(first.ticket, started);
  EXPECT_TRUE(absl::IsAborted(first.response.status())) << first.response.status();
  const Outcome second = Next();
  EXPECT_EQ(second.ticket, queued);
  EXPECT_TRUE(absl::IsUnavailable(second.response.status())) << second.response.status();
  EXPECT_FALSE(channel().Wait(kLong));
  const TensorSpec spec{"x", DType::kFloat32, {1}};
  EXPECT_TRUE(absl::IsUnavailable(channel().NewRequest(std::span(&spec, 1)).status()));
}

TEST_F(ChannelTest, TheServersEndDeliversWhatWasAnswered) {
  options_.event_fd = true;
  const std::shared_ptr<internal::Session> session = server_.Connect();
  channel_.emplace(*internal::ChannelCore::OpenChannel(session, options_));
  Serve();
  EXPECT_FALSE(channel().Poll());  // it has seen that a worker took over
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 4)).ok());
  worker_->Step();
  server_.Die();
  while (!session->gone()) std::this_thread::yield();
  // The look before a sleep finds the answer and the server's end together.
  EXPECT_TRUE(channel().Arm());
  Outcome outcome = Next();
  ASSERT_TRUE(outcome.response.ok()) << outcome.response.status();
  ExpectDoubled(*outcome.response, 1, 4);
}

TEST_F(ChannelTest, TheServersEndWakesASleeper) {
  Open(options_);
  std::thread killer([&] {
    RawWorker raw(server_, 0);
    while (!raw.Submitted(0)) std::this_thread::yield();
    server_.Die();
  });
  const absl::Status status =
      channel().Call(Vector(channel(), 1, 1), {.timeout = absl::Hours(1)}).status();
  killer.join();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

// ---- What the worker says, and when ------------------------------------------------------------

// "Started" is a fact: it is published before the model runs, "completed"
// after it.
TEST_F(ChannelTest, WhatIsStartedIsPublishedBeforeItRuns) {  // R1
  options_.first_sequence = uint64_t{0} - 2;
  Open(options_);
  const RawWorker raw(server_, 0);
  std::vector<uint64_t> taken;
  FunctionModel model([&](auto inputs, auto& outputs) {
    taken.push_back(raw.state().taken.load());
    EXPECT_GT(server_.worker_page().busy_since_ns.load(), 0);
    return Double(inputs, outputs);
  });
  StepWorker worker(server_, 0, 1, model);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1)).ok());
  worker.StepAll();
  EXPECT_THAT(taken, ::testing::ElementsAre(uint64_t{0} - 1, 0u, 1u, 2u));
  EXPECT_EQ(server_.worker_page().busy_since_ns.load(), 0);
  EXPECT_GT(server_.worker_page().heartbeat_ns.load(), 0);
  EXPECT_EQ(server_.worker_page().taken.load(), 4u);
  EXPECT_EQ(server_.worker_page().completed.load(), 4u);
}

// ---- Forks -------------------------------------------------------------------------------------

// R12: a child of the user's process gets a status, and hurts nobody.
TEST_F(ChannelTest, AForkedChildIsRefused) {
  Open(options_);
  Serve();
  ASSERT_TRUE(channel().Submit(Vector(channel(), 3, 1)).ok());
  worker_->Step();
  Response lease = *Next().response;
  Request request = Vector(channel(), 3, 5);
  const pid_t child = ::fork();
  if (child == 0) {
    const TensorSpec spec{"x", DType::kFloat32, {1}};
    int wrong = 0;
    wrong += absl::IsFailedPrecondition(channel().NewRequest(std::span(&spec, 1)).status()) ? 0 : 1;
    wrong += absl::IsFailedPrecondition(channel().Submit(std::move(request)).status()) ? 0 : 2;
    wrong += absl::IsFailedPrecondition(channel().Call(std::move(request)).status()) ? 0 : 4;
    wrong += channel().Poll() || channel().Wait(kLong) ? 8 : 0;
    // Destructors run in a child that returns from main.
    lease = Response();
    request = Request();
    channel_.reset();
    ::_exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  ExpectDoubled(lease, 3, 1);
  ASSERT_TRUE(channel().Submit(std::move(request)).ok());
  worker_->Step();
  ExpectDoubled(*Next().response, 3, 5);
  EXPECT_EQ(server_.closed_channels(), 0);
}

// ---- Event descriptors -------------------------------------------------------------------------

TEST_F(ChannelTest, AnEventDescriptorWakesAnEpollLoop) {
  options_.event_fd = true;
  Open(options_);
  Serve();
  const auto readable = [&] {
    pollfd fd{channel().event_fd(), POLLIN, 0};
    return ::poll(&fd, 1, 0) == 1;
  };
  EXPECT_FALSE(channel().Arm());
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1)).ok());
  EXPECT_FALSE(readable());
  worker_->Step();
  EXPECT_TRUE(readable());
  channel().ClearEvent();
  EXPECT_FALSE(readable());
  // What is there already is said by Arm itself.
  EXPECT_TRUE(channel().Arm());
  EXPECT_TRUE(Next().response.ok());
  // Not armed, nobody pays for a system call.
  channel().ClearEvent();
  ASSERT_TRUE(channel().Submit(Vector(channel(), 1, 1)).ok());
  worker_->Step();
  EXPECT_FALSE(readable());
}

TEST_F(ChannelTest, WithoutAnEventDescriptorThereIsNone) {
  Open(options_);
  EXPECT_EQ(channel().event_fd(), -1);
  EXPECT_TRUE(channel().Arm());
}

// ---- Handles -----------------------------------------------------------------------------------

TEST_F(ChannelTest, MovedFromHandlesSayWhatTheyAre) {
  Open(options_);
  Serve();
  Channel moved = std::move(*channel_);
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_->NewRequest().status()));
  EXPECT_FALSE(channel_->Poll());
  EXPECT_FALSE(channel_->Wait(kLong));
  EXPECT_EQ(channel_->outstanding(), 0u);
  ASSERT_TRUE(moved.Submit(Vector(moved, 1, 1)).ok());
  worker_->Step();
  EXPECT_TRUE(moved.Poll()->response.ok());
  Request request = Vector(moved, 2, 1);
  Request taken = std::move(request);
  EXPECT_FALSE(request.valid());  // NOLINT
  EXPECT_EQ(request.input_count(), 0u);
  taken = Request();
  ExpectAllFree(moved, options_);
}

TEST_F(ChannelTest, OptionsOutsideTheirLimitsAreRefused) {
  const std::shared_ptr<internal::Session> session = server_.Connect();
  const auto refused = [&](const ChannelOptions& options) {
    return absl::IsInvalidArgument(internal::ChannelCore::OpenChannel(session, options).status());
  };
  EXPECT_TRUE(refused({.ring_entries = 0}));
  EXPECT_TRUE(refused({.ring_entries = 3}));
  EXPECT_TRUE(refused({.ring_entries = 1 << 17}));
  EXPECT_TRUE(refused({.request_arena_bytes = 0}));
  EXPECT_TRUE(refused({.response_arena_bytes = 0}));
  EXPECT_TRUE(refused({.max_handles = 0}));
  EXPECT_TRUE(refused({.max_handles = (1 << 20) + 1}));
  ChannelOptions forever = Small();
  forever.max_spin = absl::InfiniteDuration();
  EXPECT_TRUE(internal::ChannelCore::OpenChannel(session, forever).ok());
}

}  // namespace
}  // namespace baton::test

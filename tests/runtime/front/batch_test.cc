// Many requests with one publication, and many answers with one look: as many
// as there is room for, in order, each with one end.
#include <poll.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/eventfd.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

ChannelOptions Small() {
  return {.ring_entries = 8,
          .request_arena_bytes = 64 << 10,
          .response_arena_bytes = 1 << 20,
          .max_handles = 32};
}

class BatchTest : public ::testing::Test {
 protected:
  std::vector<Request> Vectors(size_t count, float first = 0) {
    std::vector<Request> requests;
    for (size_t i = 0; i < count; ++i) {
      requests.push_back(Vector(channel_, 2, first + static_cast<float>(i)));
    }
    return requests;
  }
  std::vector<BoundRequest> Bind(size_t count) {
    const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {2}};
    std::vector<BoundRequest> bound;
    for (size_t i = 0; i < count; ++i) {
      bound.push_back(*channel_.Bind(*channel_.Plan({&x, 1})));
      bound.back().set_tag(i);
    }
    return bound;
  }

  FakeServer server_;
  FunctionModel model_{Double};
  Channel channel_ = server_.Open(Small());
};

// At any time: with nothing under way, before an answer, beside one, and of a channel that is
// another's by now.
TEST_F(BatchTest, APrefetchChangesNothing) {
  StepWorker worker(server_, 0, 1, model_);
  channel_.Prefetch();
  EXPECT_FALSE(channel_.Poll());
  for (int lap = 0; lap < 20; ++lap) {
    ASSERT_TRUE(channel_.Submit(Vector(channel_, 2, 1)).ok());
    channel_.Prefetch();
    EXPECT_EQ(channel_.outstanding(), 1u);
    worker.StepAll();
    channel_.Prefetch();
    const std::optional<Outcome> outcome = channel_.Poll();
    ASSERT_TRUE(outcome && outcome->response.ok());
    EXPECT_EQ(outcome->response.value().output<float>("y")[0], 2);
  }
  const Channel other = std::move(channel_);
  channel_.Prefetch();  // NOLINT(bugprone-use-after-move)
  other.Prefetch();
}

TEST_F(BatchTest, IsServedInOrder) {
  StepWorker worker(server_, 0, 1, model_);
  for (int lap = 0; lap < 10; ++lap) {
    std::vector<Request> requests = Vectors(5, static_cast<float>(10 * lap));
    std::vector<Ticket> tickets(5);
    const absl::StatusOr<size_t> accepted = channel_.SubmitBatch(requests, {}, tickets);
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    EXPECT_EQ(*accepted, 5u);
    EXPECT_EQ(channel_.outstanding(), 5u);
    for (const Request& request : requests) EXPECT_FALSE(request.valid());
    worker.StepAll();
    std::vector<Outcome> outcomes(8);
    ASSERT_EQ(channel_.Poll(std::span(outcomes)), 5u);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(outcomes[i].ticket, tickets[i]);
      ASSERT_TRUE(outcomes[i].response.ok());
      EXPECT_EQ(outcomes[i].response->output<float>("y")[0],
                2 * static_cast<float>(10 * lap + static_cast<int>(i)));
    }
    EXPECT_EQ(channel_.Poll(std::span(outcomes)), 0u);
  }
  EXPECT_EQ(channel_.outstanding(), 0u);
  EXPECT_EQ(channel_.free_request_bytes(), Small().request_arena_bytes);
}

// A worker that looks between two of its stores finds none of a batch, or all.
TEST_F(BatchTest, IsThereAtOnce) {
  std::vector<Request> requests = Vectors(4);
  const RawWorker raw(server_, 0);
  ASSERT_TRUE(channel_.SubmitBatch(requests).ok());
  for (uint64_t sequence = 0; sequence < 4; ++sequence) EXPECT_TRUE(raw.Submitted(sequence));
  EXPECT_FALSE(raw.Submitted(4));
}

TEST_F(BatchTest, WakesAWorkerOnce) {
  server_.worker_page().sleeping.store(1);
  std::vector<Request> requests = Vectors(4);
  ASSERT_TRUE(channel_.SubmitBatch(requests).ok());
  uint64_t wakes = 0;
  ASSERT_EQ(::read(server_.doorbell(), &wakes, sizeof(wakes)), ssize_t{sizeof(wakes)});
  EXPECT_EQ(wakes, 1u);
}

// A burst's answers are in the order of the ring, and a front that sleeps is woken before it ends.
TEST_F(BatchTest, IsAnsweredInBursts) {
  ChannelOptions options = Small();
  options.event_fd = true;
  Channel channel = server_.Open(options);
  StepWorker worker(server_, 1, 1, model_);
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(channel.Submit(Vector(channel, 2, static_cast<float>(i))).ok());
  }
  size_t answered = 0;
  while (answered < 8) {
    ASSERT_FALSE(channel.Arm()) << "nothing is there yet";
    const size_t served = worker.Burst();
    ASSERT_GT(served, 0u);
    pollfd event{.fd = channel.event_fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&event, 1, 0), 1) << "nobody woke it";
    channel.ClearEvent();
    for (size_t i = 0; i < served; ++i, ++answered) {
      const std::optional<Outcome> outcome = channel.Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
      EXPECT_EQ(outcome->response->output<float>("y")[0], 2 * static_cast<float>(answered));
    }
    EXPECT_FALSE(channel.Poll());
  }
  EXPECT_EQ(worker.Burst(), 0u);
}

TEST_F(BatchTest, TakesAsManyAsTheRingHasRoomFor) {
  StepWorker worker(server_, 0, 1, model_);
  std::vector<Request> requests = Vectors(12);
  const absl::StatusOr<size_t> accepted = channel_.SubmitBatch(requests);
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_EQ(*accepted, 8u);
  EXPECT_FALSE(requests[7].valid());
  EXPECT_TRUE(requests[8].valid());
  const std::span<Request> rest = std::span(requests).subspan(8);
  EXPECT_TRUE(absl::IsResourceExhausted(channel_.SubmitBatch(rest).status()));
  EXPECT_TRUE(requests[8].valid());
  // Answers that nobody has read make room.
  worker.StepAll();
  EXPECT_EQ(*channel_.SubmitBatch(rest), 4u);
  worker.StepAll();
  std::vector<Outcome> outcomes(5);  // fewer than there are
  EXPECT_EQ(channel_.Poll(std::span(outcomes)), 5u);
  EXPECT_EQ(channel_.Poll(std::span(outcomes)), 5u);
  EXPECT_EQ(channel_.Poll(std::span(outcomes)), 2u);
  EXPECT_EQ(outcomes[1].response->output<float>("y")[0], 22);
}

TEST_F(BatchTest, NothingIsNothing) {
  EXPECT_EQ(*channel_.SubmitBatch(std::span<Request>()), 0u);
  EXPECT_EQ(*channel_.SubmitBatch(std::span<BoundRequest* const>()), 0u);
  EXPECT_EQ(channel_.Poll(std::span<Outcome>()), 0u);
}

TEST_F(BatchTest, WhatIsNotThisChannelsRefusesAll) {
  Channel other = server_.Open(Small());
  std::vector<Request> requests = Vectors(2);
  requests.push_back(Vector(other, 2, 0));
  EXPECT_TRUE(absl::IsInvalidArgument(channel_.SubmitBatch(requests).status()));
  EXPECT_TRUE(requests[0].valid());
  EXPECT_EQ(channel_.outstanding(), 0u);
}

TEST_F(BatchTest, OfBoundRequestsGoesRound) {
  WorkerThread worker(server_, 0, 1, model_);
  std::vector<BoundRequest> bound = Bind(6);
  std::vector<BoundRequest*> again;
  for (BoundRequest& one : bound) again.push_back(&one);
  std::vector<Outcome> outcomes(6);
  std::vector<int> served(6);
  for (int rounds = 0; rounds < 300;) {
    for (BoundRequest* one : again) {
      one->input<float>(0)[0] = static_cast<float>(one->tag()) + 10 * float(served[one->tag()]);
    }
    const absl::StatusOr<size_t> accepted = channel_.SubmitBatch(again);
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    ASSERT_EQ(*accepted, again.size());
    again.clear();
    while (again.empty()) {
      const size_t taken = channel_.Poll(std::span(outcomes));
      for (size_t i = 0; i < taken; ++i, ++rounds) {
        ASSERT_TRUE(outcomes[i].response.ok()) << outcomes[i].response.status();
        BoundRequest& one = bound[outcomes[i].tag];
        EXPECT_EQ(one.output<float>("y")[0],
                  2 * (static_cast<float>(one.tag()) + 10 * float(served[one.tag()])));
        ++served[one.tag()];
        again.push_back(&one);
      }
      if (taken == 0) std::this_thread::yield();
    }
  }
}

TEST_F(BatchTest, StopsAtABoundRequestThatIsUnderWay) {
  StepWorker worker(server_, 0, 1, model_);
  std::vector<BoundRequest> bound = Bind(3);
  // The first one twice: its second time is not accepted.
  BoundRequest* const twice[] = {&bound[0], &bound[1], &bound[0], &bound[2]};
  EXPECT_EQ(*channel_.SubmitBatch(twice), 2u);
  EXPECT_FALSE(bound[2].under_way());
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_.SubmitBatch(std::span(twice).first(1)).status()));
  worker.StepAll();
  EXPECT_EQ(model_.runs(), 2);
}

TEST_F(BatchTest, IsSettledAsAnyOther) {
  std::vector<Request> requests = Vectors(4);
  ASSERT_EQ(*channel_.SubmitBatch(requests), 4u);
  const RawWorker raw(server_, 0);
  raw.state().taken.store(2);
  server_.ShowReaped(1);
  std::vector<Outcome> outcomes(8);
  ASSERT_EQ(channel_.Poll(std::span(outcomes)), 2u);
  EXPECT_TRUE(absl::IsAborted(outcomes[0].response.status()));
  EXPECT_TRUE(absl::IsAborted(outcomes[1].response.status()));
  StepWorker worker(server_, 0, 2, model_);
  worker.StepAll();
  ASSERT_EQ(channel_.Poll(std::span(outcomes)), 2u);
  EXPECT_EQ(outcomes[0].response->output<float>("y")[0], 4);
  EXPECT_EQ(outcomes[1].response->output<float>("y")[0], 6);
}

}  // namespace
}  // namespace baton::test

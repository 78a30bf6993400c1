// What becomes of a request that is given up after it has joined a batch, and before the batch is
// run. One thread, a clock that only the test moves, and waits that are scripts.
#include <poll.h>

#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "runtime/worker/batch_gatherer.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/worker/batching_worker.h"

namespace baton::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kUs = 1000;
constexpr int64_t kSecond = 1'000'000 * kUs;

class BatchCancellationTest : public ::testing::Test {
 protected:
  void Open(size_t channels, const loader::BatchingPolicy& policy, uint32_t ring_entries = 16) {
    while (channels_.size() < channels) {
      channels_.push_back(server_.Open({.ring_entries = ring_entries,
                                        .request_arena_bytes = 64 << 10,
                                        .response_arena_bytes = 2 << 20}));
    }
    worker_.emplace(server_, model_, policy);
    // So that their requests are known, and join without a second look.
    for (size_t i = 0; i < channels; ++i) {
      Submit(i, 0);
      while (worker_->Turn()) {
      }
      EXPECT_EQ(Answer(i), "0");
    }
    model_.calls.clear();
    worker_->waited_until.clear();
    worker_->turn = 0;
    expired_before_ = page().expired;
  }
  Ticket Submit(size_t channel, float x, const CallOptions& options = {}) {
    return *channels_[channel].Submit(Vector(channels_[channel], 1, x), options);
  }
  void Cancel(size_t channel, Ticket ticket) {
    EXPECT_TRUE(channels_[channel].Cancel(ticket).ok());
  }
  std::string Answer(size_t channel) {
    const std::optional<Outcome> outcome = channels_[channel].Poll();
    if (!outcome) return "none";
    if (!outcome->response.ok()) {
      return std::string(absl::StatusCodeToString(outcome->response.status().code()));
    }
    return std::to_string(static_cast<int>(outcome->response->output<float>("y")[0]));
  }
  ipc::WorkerPage& page() { return server_.worker_page(); }
  uint64_t expired() { return page().expired - expired_before_; }

  FakeServer server_;
  DoublingModel model_;
  std::vector<Channel> channels_;
  std::optional<BatchingWorker> worker_;
  uint64_t expired_before_ = 0;
};

TEST_F(BatchCancellationTest, WhatWaitsInABatchIsLeftOut) {
  Open(3, {.max_batch = 8, .max_delay_us = 1000});
  Submit(0, 1);
  const Ticket given_up = Submit(1, 2);
  Submit(2, 3);
  worker_->waits = {[&] {
    // All have joined: they show as started.
    EXPECT_EQ(page().taken, 3u + 3u);
    Cancel(1, given_up);
    worker_->command_waits = true;
  }};
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_.calls, ElementsAre(ElementsAre(1, 3)));
  EXPECT_EQ(Answer(0), "2");
  EXPECT_EQ(Answer(1), "none");  // nobody asks any more
  EXPECT_EQ(Answer(2), "6");
  EXPECT_EQ(expired(), 1u);
  // Its block and its place came back with its completion.
  worker_->command_waits = false;
  for (int i = 0; i < 40; ++i) {
    Submit(1, 5);
    EXPECT_TRUE(worker_->Turn());
    ASSERT_EQ(Answer(1), "10");
  }
}

TEST_F(BatchCancellationTest, TheFirstAndTheLastAreLeftOutToo) {
  Open(4, {.max_batch = 8});
  const Ticket first = Submit(0, 1);
  Submit(1, 2);
  Submit(2, 3);
  const Ticket last = Submit(3, 4);
  Cancel(0, first);
  Cancel(3, last);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_.calls, ElementsAre(ElementsAre(2, 3)));
  EXPECT_EQ(Answer(1), "4");
  EXPECT_EQ(Answer(2), "6");
  EXPECT_EQ(expired(), 2u);
}

TEST_F(BatchCancellationTest, WhatIsLeftAloneIsRunInPlace) {
  Open(2, {.max_batch = 8});
  const Ticket given_up = Submit(0, 1);
  Submit(1, 2);
  Cancel(0, given_up);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_.calls, ElementsAre(ElementsAre(2)));
  EXPECT_EQ(Answer(1), "4");
}

TEST_F(BatchCancellationTest, TheModelIsNotCalledForNobody) {
  Open(2, {.max_batch = 8});
  const uint64_t batches = page().batches;
  Cancel(0, Submit(0, 1));
  Cancel(1, Submit(1, 2));
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_.calls, IsEmpty());
  EXPECT_EQ(expired(), 2u);
  EXPECT_EQ(page().batches, batches);
  EXPECT_EQ(page().busy_since_ns, 0);
  Submit(0, 3);
  EXPECT_TRUE(worker_->Turn());
  EXPECT_EQ(Answer(0), "6");
}

// All that one channel may have under way, lap after lap of its ring: the one that is given up may
// be as far behind the first that is looked at as there can be one.
TEST_F(BatchCancellationTest, AnyOfAFullRing) {
  Open(1, {.max_batch = 64, .max_delay_us = 1000}, /*ring_entries=*/4);
  for (size_t lap = 0; lap < 8; ++lap) {
    model_.calls.clear();
    worker_->command_waits = false;
    std::vector<Ticket> tickets;
    for (int i = 0; i < 4; ++i) tickets.push_back(Submit(0, static_cast<float>(i)));
    worker_->waits = {[&] {
      Cancel(0, tickets[lap % 4]);
      worker_->command_waits = true;
    }};
    EXPECT_TRUE(worker_->Turn());
    ASSERT_THAT(model_.calls, SizeIs(1));
    EXPECT_THAT(model_.calls[0],
                ::testing::AllOf(SizeIs(3),
                                 ::testing::Not(::testing::Contains(static_cast<float>(lap % 4)))));
    EXPECT_EQ(expired(), lap + 1);
    while (channels_[0].Poll()) {
    }
  }
}

// Whoever sleeps on the channel hears of it: a front that has withdrawn a request waits for how it
// ended.
TEST_F(BatchCancellationTest, ItsFrontIsWoken) {
  channels_.push_back(server_.Open({.ring_entries = 16,
                                    .request_arena_bytes = 64 << 10,
                                    .response_arena_bytes = 2 << 20,
                                    .event_fd = true}));
  Open(1, {.max_batch = 8});
  const auto readable = [&] {
    pollfd fd{channels_[0].event_fd(), POLLIN, 0};
    return ::poll(&fd, 1, 0) == 1;
  };
  channels_[0].ClearEvent();
  Cancel(0, Submit(0, 1));
  EXPECT_FALSE(channels_[0].Arm());
  EXPECT_FALSE(readable());
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_.calls, IsEmpty());
  EXPECT_TRUE(readable());
}

// Of two deadlines the earlier one is that of nobody.
TEST_F(BatchCancellationTest, ADeadlineGoesWithItsRequest) {
  Open(2, {.max_batch = 8});
  const Ticket given_up = Submit(0, 1, {.timeout = absl::Hours(1)});
  Submit(1, 2, {.timeout = absl::Hours(3)});
  Cancel(0, given_up);
  int64_t deadline_ns = 0;
  model_.before = [&] {
    deadline_ns = page().busy_deadline_ns;
    return absl::OkStatus();
  };
  const int64_t now_ns = ipc::MonotonicNs();
  EXPECT_TRUE(worker_->Turn());
  EXPECT_THAT(model_.calls, SizeIs(1));
  EXPECT_GT(deadline_ns - now_ns, int64_t{2} * 3600 * kSecond);
}

// A batch of nobody says nothing about how long one takes. The model takes 400 s: a request that is
// due in 1000 s waits for 600, before and after.
TEST_F(BatchCancellationTest, ABatchOfNobodyTeachesNothing) {
  Open(2, {.max_batch = 8, .max_delay_us = 900 * kSecond / kUs});
  model_.before = [&] {
    worker_->clock_ns += 400 * kSecond;
    return absl::OkStatus();
  };
  Submit(0, 1, {.timeout = absl::InfiniteDuration()});
  EXPECT_TRUE(worker_->Turn());
  for (int i = 0; i < 50; ++i) {
    Cancel(0, Submit(0, 1, {.timeout = absl::InfiniteDuration()}));
    EXPECT_TRUE(worker_->Turn());
  }
  worker_->waited_until.clear();
  const int64_t now = worker_->clock_ns;
  const int64_t earliest = worker_->RealNs();
  Submit(1, 2, {.timeout = absl::Nanoseconds(now + 1000 * kSecond - earliest)});
  const int64_t latest = worker_->RealNs();
  EXPECT_TRUE(worker_->Turn());
  ASSERT_THAT(worker_->waited_until, SizeIs(1));
  EXPECT_GE(worker_->waited_until[0], now + 600 * kSecond);
  EXPECT_LE(worker_->waited_until[0], now + 600 * kSecond + latest - earliest);
}

}  // namespace
}  // namespace baton::test

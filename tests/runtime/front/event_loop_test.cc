// A channel in an event loop that others use, too: what one of them reads is
// not kept from the loop, and deadlines count whatever else comes in.
#include <poll.h>

#include <optional>
#include <thread>

#include "gtest/gtest.h"

#include "ipc/futex.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

class EventLoop : public ::testing::Test {
 protected:
  bool Readable() {
    pollfd fd{channel_.event_fd(), POLLIN, 0};
    return ::poll(&fd, 1, 0) == 1;
  }
  // Until the front sleeps in a Call: from here on the worker wakes that.
  void AwaitSleepingCall() {
    while (raw_.front().sleeping.load() != ipc::kFrontOnFutex) std::this_thread::yield();
  }

  FakeServer server_;
  FunctionModel model_{Double};
  Channel channel_ = server_.Open({.ring_entries = 8,
                                   .request_arena_bytes = 64 << 10,
                                   .response_arena_bytes = 1 << 20,
                                   .event_fd = true});
  RawWorker raw_{server_, 0};
};

// Read before it was armed: Arm itself says so.
TEST_F(EventLoop, ArmKnowsWhatACallHasRead) {
  const Ticket ticket = *channel_.Submit(Vector(channel_, 1, 1));
  {
    const WorkerThread worker(server_, 0, 1, model_);
    ASSERT_TRUE(channel_.Call(Vector(channel_, 1, 1)).ok());
  }
  EXPECT_TRUE(channel_.Arm()) << "silent for ever: the worker has nothing more to say";
  EXPECT_EQ(channel_.Poll()->ticket, ticket);
}

// Read while it was armed, by a Call that the worker woke in the loop's place.
TEST_F(EventLoop, AnAnswerThatACallReadsWakesTheLoop) {
  const Ticket ticket = *channel_.Submit(Vector(channel_, 1, 1));
  ASSERT_FALSE(channel_.Arm());
  std::thread worker([&] {
    StepWorker first(server_, 0, 1, model_);
    AwaitSleepingCall();
    first.Step();
    // The Call itself ends by its worker's death.
    raw_.state().taken.store(2);
    server_.ShowReaped(1);
  });
  EXPECT_TRUE(absl::IsAborted(channel_.Call(Vector(channel_, 1, 1)).status()));
  worker.join();
  EXPECT_TRUE(Readable());
  EXPECT_EQ(channel_.Poll()->ticket, ticket);
}

// Ended while it was armed, by what a Call found: no completion, so nobody
// else signals it.
TEST_F(EventLoop, AnEndThatACallFindsWakesTheLoop) {
  const Ticket ticket = *channel_.Submit(Vector(channel_, 1, 1));
  ASSERT_FALSE(channel_.Arm());
  EXPECT_FALSE(Readable());
  std::thread supervisor([&] {
    { const StepWorker worker(server_, 0, 1, model_); }
    AwaitSleepingCall();
    raw_.state().taken.store(2);
    server_.ShowReaped(1);
  });
  EXPECT_TRUE(absl::IsAborted(channel_.Call(Vector(channel_, 1, 1)).status()));
  supervisor.join();
  EXPECT_TRUE(Readable());
  const std::optional<Outcome> outcome = channel_.Poll();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->ticket, ticket);
}

// A Call that sleeps does not disarm the loop: what comes after it signals.
TEST_F(EventLoop, ACallThatSleptLeavesTheLoopArmed) {
  const Ticket ticket = *channel_.Submit(Vector(channel_, 1, 1));
  ASSERT_FALSE(channel_.Arm());
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      channel_.Call(Vector(channel_, 1, 1), {.timeout = absl::Milliseconds(20)}).status()));
  EXPECT_FALSE(Readable());
  StepWorker worker(server_, 0, 1, model_);
  worker.Step();
  EXPECT_TRUE(Readable());
  EXPECT_EQ(channel_.Poll()->ticket, ticket);
}

// Something always comes, so nobody ever has a reason to sleep.
TEST_F(EventLoop, DeadlinesCountWhereSomethingAlwaysComes) {
  constexpr int kEnough = 1000;
  for (const bool wait : {true, false}) {
    Channel channel = server_.Open(
        {.ring_entries = 8, .request_arena_bytes = 64 << 10, .response_arena_bytes = 1 << 20});
    const RawWorker raw(server_, server_.opened_channels() - 1);
    const absl::Duration timeout = absl::Milliseconds(20);
    const Ticket stuck = *channel.Submit(Vector(channel, 1, 1), {.timeout = timeout});
    const int64_t deadline = ipc::MonotonicNs() + absl::ToInt64Nanoseconds(timeout);
    uint64_t completed = 0;
    bool expired = false;
    for (int looks = 0; looks < kEnough && !expired;) {
      ASSERT_TRUE(channel.Submit(Vector(channel, 1, 1)).ok());
      raw.Fail(completed + 1, completed, absl::StatusCode::kDataLoss);
      ++completed;
      const std::optional<Outcome> outcome = wait ? channel.Wait(absl::Hours(1)) : channel.Poll();
      ASSERT_TRUE(outcome);
      expired = outcome->ticket == stuck;
      if (ipc::MonotonicNs() > deadline) ++looks;
    }
    EXPECT_TRUE(expired) << (wait ? "Wait" : "Poll") << " never looked at the clock";
  }
}

}  // namespace
}  // namespace baton::test

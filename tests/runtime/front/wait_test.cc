// Nobody sleeps through a wake-up (R3): both sides go to sleep as often as
// they can, with no spinning before it, and no timeout that would hide a loss.
#include <poll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/futex.h"
#include "ipc/segment.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

ChannelOptions NeverSpins() {
  return {.ring_entries = 8,
          .request_arena_bytes = 64 << 10,
          .response_arena_bytes = 1 << 20,
          .max_spin = absl::ZeroDuration()};
}
// A lost wake-up of the worker shows as a request that misses this.
constexpr CallOptions kOptions{.timeout = absl::Minutes(2)};

TEST(Waiting, CallsWithNoSpinAreAllAnswered) {  // R3
  FakeServer server;
  FunctionModel model(Double);
  Channel channel = server.Open(NeverSpins());
  const WorkerThread worker(server, 0, 1, model);
  for (int i = 0; i < 20'000; ++i) {
    const absl::StatusOr<Response> response =
        channel.Call(Vector(channel, 2, static_cast<float>(i)), kOptions);
    ASSERT_TRUE(response.ok()) << i << ": " << response.status();
    ASSERT_EQ(response->output<float>("y")[0], 2 * static_cast<float>(i));
  }
}

// Several in flight, so that answers come while the front is about to sleep.
TEST(Waiting, WaitWithNoSpinGetsEveryAnswer) {  // R3
  FakeServer server;
  FunctionModel model(Double);
  Channel channel = server.Open(NeverSpins());
  const WorkerThread worker(server, 0, 1, model);
  uint64_t submitted = 0;
  for (uint64_t answered = 0; answered < 20'000; ++answered) {
    while (channel.outstanding() < 1 + submitted % 4) {
      ASSERT_TRUE(channel.Submit(Vector(channel, 2, 1), kOptions).ok());
      ++submitted;
    }
    const std::optional<Outcome> outcome = channel.Wait(absl::Minutes(2));
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(outcome->response.ok()) << answered << ": " << outcome->response.status();
  }
}

// An epoll loop that sleeps without a timeout: a lost signal would hang here.
TEST(Waiting, EventDescriptorsAreNeverSilent) {  // R3
  FakeServer server;
  FunctionModel model(Double);
  ChannelOptions options = NeverSpins();
  options.event_fd = true;
  Channel channel = server.Open(options);
  const WorkerThread worker(server, 0, 1, model);
  for (int answered = 0; answered < 10'000;) {
    while (channel.outstanding() < 3) {
      ASSERT_TRUE(channel.Submit(Vector(channel, 2, 1), kOptions).ok());
    }
    if (!channel.Arm()) {
      pollfd fd{channel.event_fd(), POLLIN, 0};
      ASSERT_EQ(::poll(&fd, 1, -1), 1);
    }
    channel.ClearEvent();
    while (const std::optional<Outcome> outcome = channel.Poll()) {
      ASSERT_TRUE(outcome->response.ok());
      ++answered;
    }
  }
}

// ---- The words they sleep on -------------------------------------------------------------------

// Two threads that wake each other through one of several words, with no
// timeout; one of them sees the words through a read-only mapping, as fronts do.
TEST(FutexWaitAny, WakesThroughAnyWordOfAReadOnlyMapping) {  // R3
  const absl::StatusOr<ipc::SegmentHandles> handles = ipc::CreateSegment({.bytes = 4096});
  ASSERT_TRUE(handles.ok());
  const absl::StatusOr<ipc::Segment> writable =
      ipc::Segment::Map(handles->read_write.get(), 4096, ipc::SegmentAccess::kReadWrite);
  const absl::StatusOr<ipc::Segment> readable =
      ipc::Segment::Map(handles->read_only.get(), 4096, ipc::SegmentAccess::kReadOnly);
  ASSERT_TRUE(writable.ok() && readable.ok());
  constexpr size_t kWords = 3;
  constexpr uint32_t kRounds = 3'000;
  const auto word = [](const ipc::Segment& segment, size_t i) {
    return reinterpret_cast<std::atomic<uint32_t>*>(segment.data() + 128 * i);
  };
  std::atomic<uint32_t> heard{0};
  std::thread sleeper([&] {
    for (uint32_t round = 0; round < kRounds;) {
      std::array<ipc::FutexWord, kWords> words;
      uint32_t sum = 0;
      for (size_t i = 0; i < kWords; ++i) {
        words[i].word = word(*readable, i);
        words[i].expected = words[i].word->load(std::memory_order_acquire);
        sum += words[i].expected;
      }
      if (sum > round) {
        round = sum;
        heard.store(round, std::memory_order_release);
        ipc::FutexWakeAll(&heard);
        continue;
      }
      ipc::FutexWaitAny(words, INT64_MAX);
    }
  });
  for (uint32_t round = 1; round <= kRounds; ++round) {
    std::atomic<uint32_t>* bumped = word(*writable, round % kWords);
    bumped->fetch_add(1, std::memory_order_release);
    ipc::FutexWakeAll(bumped);
    for (uint32_t now; (now = heard.load(std::memory_order_acquire)) < round;) {
      const ipc::FutexWord words[] = {{&heard, now}};
      ipc::FutexWaitAny(words, INT64_MAX);
    }
  }
  sleeper.join();
  EXPECT_EQ(heard.load(), kRounds);
}

TEST(FutexWaitAny, SaysWhyItReturned) {
  std::atomic<uint32_t> a{1};
  std::atomic<uint32_t> b{2};
  const ipc::FutexWord same[] = {{&a, 1}, {&b, 2}};
  const ipc::FutexWord changed[] = {{&a, 1}, {&b, 3}};
  EXPECT_EQ(ipc::FutexWaitAny(changed, INT64_MAX), ipc::FutexResult::kChanged);
  const int64_t soon = ipc::MonotonicNs() + 2'000'000;
  ipc::FutexResult result;
  do {
    result = ipc::FutexWaitAny(same, soon);
  } while (result == ipc::FutexResult::kWoken);  // it may wake for nothing
  EXPECT_EQ(result, ipc::FutexResult::kTimedOut);
  EXPECT_GE(ipc::MonotonicNs(), soon);
  EXPECT_EQ(ipc::FutexWaitAny(same, 0), ipc::FutexResult::kTimedOut);
}

}  // namespace
}  // namespace baton::test

// A channel that owns its CPU never sleeps, and notices all the same whatever a
// sleeper is woken for.
#include <pthread.h>

#include <atomic>
#include <ctime>
#include <thread>

#include "gtest/gtest.h"

#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

ChannelOptions Busy() {
  return {.ring_entries = 8,
          .request_arena_bytes = 64 << 10,
          .response_arena_bytes = 1 << 20,
          .max_spin = absl::ZeroDuration(),
          .busy_poll = true};
}

// A call on a thread of its own, that is waiting as soon as this is made.
class WaitingCall {
 public:
  WaitingCall(Channel& channel, const RawWorker& worker, const CallOptions& options)
      : thread_([&channel, options, this] {
          status_ = channel.Call(Vector(channel, 2, 1), options).status();
          ended_ = true;
        }) {
    while (!worker.Submitted(0)) std::this_thread::yield();
  }
  // CPU time of its thread, as long as that runs.
  int64_t CpuNs() {
    clockid_t clock;
    timespec used{};
    EXPECT_EQ(::pthread_getcpuclockid(thread_.native_handle(), &clock), 0);
    EXPECT_EQ(::clock_gettime(clock, &used), 0);
    return used.tv_sec * int64_t{1'000'000'000} + used.tv_nsec;
  }
  bool ended() const { return ended_; }
  absl::Status Join() {
    thread_.join();
    return status_;
  }

 private:
  absl::Status status_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

TEST(BusyPoll, NeverSleeps) {
  FakeServer server;
  Channel channel = server.Open(Busy());
  const RawWorker worker(server, 0);
  WaitingCall call(channel, worker, {.timeout = absl::Minutes(5)});
  // Many times what a spin lasts. One that sleeps says so, and uses no time.
  const int64_t began = call.CpuNs();
  while (worker.front().sleeping.load() == ipc::kFrontAwake && call.CpuNs() < began + 5'000'000) {
    std::this_thread::yield();
  }
  EXPECT_EQ(worker.front().sleeping.load(), uint32_t{ipc::kFrontAwake});
  EXPECT_FALSE(call.ended());
  worker.Fail(0, 0, absl::StatusCode::kInternal);  // and wakes nobody
  EXPECT_TRUE(absl::IsInternal(call.Join()));
}

TEST(BusyPoll, NoticesItsDeadline) {
  FakeServer server;
  Channel channel = server.Open(Busy());
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      channel.Call(Vector(channel, 2, 1), {.timeout = absl::Milliseconds(2)}).status()));
  EXPECT_FALSE(channel.Wait(absl::Milliseconds(1)));
}

TEST(BusyPoll, NoticesTheServersEnd) {
  FakeServer server;
  Channel channel = server.Open(Busy());
  const RawWorker worker(server, 0);
  WaitingCall call(channel, worker, {.timeout = absl::Minutes(5)});
  server.Die();
  EXPECT_TRUE(absl::IsUnavailable(call.Join()));
}

TEST(BusyPoll, NoticesADeadWorker) {
  FakeServer server;
  Channel channel = server.Open(Busy());
  const RawWorker worker(server, 0);
  WaitingCall call(channel, worker, {.timeout = absl::Minutes(5)});
  worker.state().taken.store(1);
  server.ShowReaped(1);
  EXPECT_TRUE(absl::IsAborted(call.Join()));
}

TEST(BusyPoll, IsAnswered) {
  FakeServer server;
  FunctionModel model(Double);
  Channel channel = server.Open(Busy());
  const WorkerThread worker(server, 0, 1, model);
  for (int i = 0; i < 200; ++i) {
    const absl::StatusOr<Response> response = channel.Call(Vector(channel, 2, float(i)));
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->output<float>("y")[0], 2 * float(i));
  }
}

}  // namespace
}  // namespace baton::test

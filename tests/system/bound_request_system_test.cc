// Bound requests through the whole system: real workers that are replaced and killed. What each end
// does to the channel's books is in tests/runtime/front/bound_request_test.cc.
#include <sys/types.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <string>

#include "gtest/gtest.h"

#include "tests/system/control_system_test.h"

namespace baton::testing {
namespace {

constexpr absl::Duration kLong = absl::Minutes(2);
constexpr int64_t kElements = 3000;
constexpr int32_t kHangs = 666;  // what the probe "hang" never comes back from

class BoundRequestSystemTest : public ControlSystemTest {
 protected:
  // Serves a model that copies its input, and never comes back from one that begins with kHangs.
  // `stop_at`: see ipc/crash_point.h.
  void ServeCopies(const std::string& stop_at = "") {
    if (!stop_at.empty()) options_.env["BATON_STOP_AT"] = stop_at;
    Serve({"behaviour: hang"});
    absl::StatusOr<Channel> channel = front_->OpenChannel({.ring_entries = 16});
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_.emplace(*std::move(channel));
    request_bytes_ = channel_->free_request_bytes();
    response_bytes_ = channel_->free_response_bytes();
  }
  TensorSpec Data() const { return {.name = "data", .dtype = DType::kInt32, .shape = {kElements}}; }
  BoundRequest Bind() {
    const TensorSpec data = Data();
    absl::StatusOr<RequestPlan> plan = channel_->Plan({&data, 1});
    EXPECT_TRUE(plan.ok()) << plan.status();
    absl::StatusOr<BoundRequest> bound = channel_->Bind(*plan);
    EXPECT_TRUE(bound.ok()) << bound.status();
    return *std::move(bound);
  }

  // Bytes that no other seed gives.
  static int32_t Value(int32_t seed, size_t at) { return seed * 10'000 + static_cast<int32_t>(at); }
  static void Fill(BoundRequest& bound, int32_t seed) {
    const std::span<int32_t> data = bound.input<int32_t>(0);
    for (size_t i = 0; i < data.size(); ++i) data[i] = Value(seed, i);
  }
  static void ExpectAnswered(const BoundRequest& bound, int32_t seed, uint64_t generation) {
    EXPECT_EQ(bound.generation(), generation);
    const std::span<const int32_t> data = bound.output<int32_t>("data");
    ASSERT_EQ(data.size(), static_cast<size_t>(kElements));
    for (size_t i = 0; i < data.size(); ++i) ASSERT_EQ(data[i], Value(seed, i)) << i;
  }
  Ticket Submit(BoundRequest& bound, const CallOptions& options = {.timeout = kLong}) {
    const absl::StatusOr<Ticket> ticket = channel_->Submit(bound, options);
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return ticket.value_or(Ticket{});
  }
  // Calls it with a seed of its own, and checks every byte of the answer.
  void ExpectCalled(BoundRequest& bound, int32_t seed, uint64_t generation) {
    Fill(bound, seed);
    const absl::Status called = channel_->Call(bound, {.timeout = kLong});
    ASSERT_TRUE(called.ok()) << called;
    ExpectAnswered(bound, seed, generation);
  }
  // The end that Wait gives next has to be this one's.
  absl::Status EndOf(Ticket ticket) {
    const std::optional<Outcome> outcome = channel_->Wait(kLong);
    if (!outcome) return absl::InternalError("it has not ended");
    EXPECT_EQ(outcome->ticket, ticket);
    return outcome->response.status();
  }
  // No end is left: each was given out once.
  void ExpectNoOtherEnd() {
    EXPECT_FALSE(channel_->Poll());
    EXPECT_EQ(channel_->outstanding(), 0u);
  }
  void ExpectAllFree() {
    EXPECT_EQ(channel_->free_request_bytes(), request_bytes_);
    EXPECT_EQ(channel_->free_response_bytes(), response_bytes_);
  }

  // A request that its worker never comes back from: what is submitted behind it is not started.
  Ticket Occupy() {
    const uint64_t before = Status().taken;
    absl::StatusOr<Request> request = channel_->NewRequest({Data()});
    EXPECT_TRUE(request.ok()) << request.status();
    request->input<int32_t>(0)[0] = kHangs;
    const absl::StatusOr<Ticket> ticket = channel_->Submit(*std::move(request), {.timeout = kLong});
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    EXPECT_TRUE(WaitUntilTaken(before + 1));
    return ticket.value_or(Ticket{});
  }
  void KillWorker(uint64_t generation) {
    const pid_t worker = server_->WorkerOf(generation);
    ASSERT_GT(worker, 0);
    ASSERT_EQ(::kill(worker, SIGKILL), 0);
  }

  std::optional<Channel> channel_;
  uint64_t request_bytes_ = 0;
  uint64_t response_bytes_ = 0;
};

TEST_F(BoundRequestSystemTest, IsUsedOnAcrossReloads) {
  ServeCopies();
  BoundRequest bound = Bind();
  const std::byte* const input = bound.input_bytes(0).data();
  int32_t seed = 0;
  for (uint64_t generation = 1; generation <= 3; ++generation) {
    for (int lap = 0; lap < 20; ++lap) {
      ASSERT_NO_FATAL_FAILURE(ExpectCalled(bound, ++seed, generation));
    }
    if (generation == 3) break;
    const uint64_t free_request = channel_->free_request_bytes();
    const uint64_t free_response = channel_->free_response_bytes();
    const absl::Status reloaded = Reload();
    ASSERT_TRUE(reloaded.ok()) << reloaded;
    // The answer of the generation before is still there, and so is its place.
    ExpectAnswered(bound, seed, generation);
    EXPECT_EQ(bound.input_bytes(0).data(), input);
    EXPECT_EQ(channel_->free_request_bytes(), free_request);
    EXPECT_EQ(channel_->free_response_bytes(), free_response);
    // What was not written anew is there for the next generation, too.
    const absl::Status called = channel_->Call(bound, {.timeout = kLong});
    ASSERT_TRUE(called.ok()) << called;
    ExpectAnswered(bound, seed, generation + 1);
  }
  ExpectNoOtherEnd();
  bound = BoundRequest();
  ExpectAllFree();
}

TEST_F(BoundRequestSystemTest, InTheGapOfAReloadItIsAnsweredByTheNextGeneration) {
  ServeCopies("worker.admitted@2");
  BoundRequest bound = Bind();
  ASSERT_NO_FATAL_FAILURE(ExpectCalled(bound, 1, 1));
  absl::StatusOr<ControlClient> client = Client();
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE(
      client->Send([](ControlClient::Envelope::Builder to) { to.initReload().setTrigger("test"); })
          .ok());
  // The first generation has gone, the second stands still before it takes its memory.
  ASSERT_TRUE(WaitFor([&] {
    const pid_t successor = server_->WorkerOf(2);
    return successor > 0 && IsStopped(successor);
  }));
  ASSERT_EQ(server_->WorkerOf(1), 0);
  Fill(bound, 2);
  const Ticket ticket = Submit(bound);
  EXPECT_FALSE(channel_->Poll());
  EXPECT_TRUE(bound.under_way());
  ASSERT_EQ(::kill(server_->WorkerOf(2), SIGCONT), 0);
  const absl::Status end = EndOf(ticket);
  ASSERT_TRUE(end.ok()) << end;
  ExpectAnswered(bound, 2, 2);
  ExpectNoOtherEnd();
}

TEST_F(BoundRequestSystemTest, EndsOnceWithTheWorkerThatRunsItAndGoesToTheNext) {
  ServeCopies();
  BoundRequest bound = Bind();
  ASSERT_NO_FATAL_FAILURE(ExpectCalled(bound, 1, 1));
  const uint64_t before = Status().taken;
  bound.input<int32_t>(0)[0] = kHangs;
  const Ticket ticket = Submit(bound);
  ASSERT_TRUE(WaitUntilTaken(before + 1));
  ASSERT_NO_FATAL_FAILURE(KillWorker(1));
  const absl::Status end = EndOf(ticket);
  EXPECT_TRUE(absl::IsAborted(end)) << end;
  EXPECT_FALSE(bound.under_way());
  EXPECT_TRUE(bound.outputs().empty());
  ExpectNoOtherEnd();
  ASSERT_NO_FATAL_FAILURE(ExpectCalled(bound, 3, 2));
  ExpectNoOtherEnd();
  bound = BoundRequest();
  ExpectAllFree();
}

TEST_F(BoundRequestSystemTest, IsRetriedByTheNextWorkerWhereItIsIdempotent) {
  ServeCopies("worker.taken_published@1:2");  // the second request that the first generation starts
  BoundRequest bound = Bind();
  ASSERT_NO_FATAL_FAILURE(ExpectCalled(bound, 1, 1));
  Fill(bound, 2);
  const Ticket ticket = Submit(bound, {.timeout = kLong, .idempotent = true});
  ASSERT_TRUE(WaitFor([&] { return IsStopped(server_->WorkerOf(1)); }));
  ASSERT_NO_FATAL_FAILURE(KillWorker(1));
  const absl::Status end = EndOf(ticket);
  ASSERT_TRUE(end.ok()) << end;
  ExpectAnswered(bound, 2, 2);
  ExpectNoOtherEnd();
}

TEST_F(BoundRequestSystemTest, ThatWaitsNotStartedIsServedByTheNextWorker) {
  ServeCopies();
  BoundRequest bound = Bind();
  ASSERT_NO_FATAL_FAILURE(ExpectCalled(bound, 1, 1));
  const Ticket occupies = Occupy();
  Fill(bound, 2);
  const Ticket waits = Submit(bound);
  ASSERT_NO_FATAL_FAILURE(KillWorker(1));
  const absl::Status aborted = EndOf(occupies);
  EXPECT_TRUE(absl::IsAborted(aborted)) << aborted;
  const absl::Status end = EndOf(waits);
  ASSERT_TRUE(end.ok()) << end;
  ExpectAnswered(bound, 2, 2);
  ExpectNoOtherEnd();
  ASSERT_NO_FATAL_FAILURE(ExpectCalled(bound, 3, 2));
}

// Its blocks are the worker's until that is dead: then they are free, and nothing is answered.
TEST_F(BoundRequestSystemTest, ThatGoesWhileItWaitsComesBackWithTheWorkersDeath) {
  ServeCopies();
  const Ticket occupies = Occupy();
  BoundRequest other = Bind();
  {
    BoundRequest bound = Bind();
    bound.input<int32_t>(0)[0] = kHangs;  // the next worker would be lost with it, too
    Submit(bound);
  }
  ASSERT_NO_FATAL_FAILURE(KillWorker(1));
  EXPECT_TRUE(absl::IsAborted(EndOf(occupies)));
  ASSERT_NO_FATAL_FAILURE(ExpectCalled(other, 2, 2));
  ExpectNoOtherEnd();
  other = BoundRequest();
  ExpectAllFree();
}

}  // namespace
}  // namespace baton::testing

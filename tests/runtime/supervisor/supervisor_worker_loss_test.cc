// Workers that die or hang while they serve.
#include <csignal>
#include <memory>
#include <string>
#include <utility>

#include "tests/runtime/supervisor/supervisor_fixture.h"

namespace baton::testing {
namespace {

class SupervisorWorkerLossTest : public SupervisorFixture {
 protected:
  absl::StatusOr<Channel> OpenChannel() {
    auto front = server_->Attach();
    if (!front.ok()) return front.status();
    front_ = *std::move(front);
    return front_->OpenChannel({.request_arena_bytes = 65536, .response_arena_bytes = 65536});
  }
  static absl::StatusOr<Response> CallInt(Channel& channel, int32_t value,
                                          const CallOptions& options = {}) {
    auto request = channel.NewRequest({{"data", DType::kInt32, {1}}});
    if (!request.ok()) return request.status();
    request->input<int32_t>("data")[0] = value;
    return channel.Call(*std::move(request), options);
  }

  std::unique_ptr<Front> front_;
};

TEST_F(SupervisorWorkerLossTest, A31_AWorkerThatSegfaultsIsReplaced) {
  WriteModel({"behaviour: crash", "weights_bytes: 4096"});
  Start();
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto response = CallInt(*channel, 666);
  EXPECT_EQ(response.status().code(), absl::StatusCode::kAborted) << response.status();
  response = CallInt(*channel, 7);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->generation(), 2);
  ASSERT_TRUE(WaitForReceipts(1));
  const auto receipt = Receipts()[0];
  EXPECT_EQ(receipt.trigger, "worker-death");
  EXPECT_EQ(receipt.outcome, "swapped");
  EXPECT_EQ(receipt.verdict, "freed");
  EXPECT_EQ(receipt.exit_kind, "signalled");
  EXPECT_EQ(receipt.exit_code, SIGSEGV);
  EXPECT_EQ(Status().restarts, 1);
}

TEST_F(SupervisorWorkerLossTest, A31_AWorkerThatIsStuckInARequestIsReplaced) {
  WriteModel({"behaviour: hang"});
  Start({"--wedge-timeout", "0.3"});
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto response = CallInt(*channel, 666);
  EXPECT_EQ(response.status().code(), absl::StatusCode::kAborted) << response.status();
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_TRUE(LogHas("wedged"));
}

// Nobody has to set a limit for it: whoever asked has long been told.
TEST_F(SupervisorWorkerLossTest, A31_AWorkerThatRunsOnAfterADeadlineIsReplaced) {
  WriteModel({"behaviour: hang"});
  Start({"--wedge-grace", "0.3"});
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto response = CallInt(*channel, 666, {.timeout = absl::Milliseconds(200)});
  EXPECT_EQ(response.status().code(), absl::StatusCode::kDeadlineExceeded) << response.status();
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_TRUE(LogHas("after its deadline"));
}

// A drain in vain tells it to serve again, in the middle of a request: it is busy, not silent.
TEST_F(SupervisorWorkerLossTest, A31_ALongRequestIsNotWedgedAfterADrainInVain) {
  WriteModel({"behaviour: slow", "ms: 2500"}, "reload: {drain_timeout: 200ms}\n");
  Start({"--heartbeat-timeout", "0.5"});
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto request = channel->NewRequest({{"data", DType::kUInt8, {1}}});
  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_TRUE(channel->Submit(*std::move(request)).ok());
  ASSERT_TRUE(WaitFor([&] { return Status().taken == 1; }));
  EXPECT_EQ(Client().Reload().outcome, "kept-old");
  auto outcome = channel->Wait(absl::Minutes(1));
  ASSERT_TRUE(outcome.has_value());
  ASSERT_TRUE(outcome->response.ok()) << outcome->response.status();
  EXPECT_EQ(outcome->response->generation(), 1);
}

TEST_F(SupervisorWorkerLossTest, A31_AWorkerThatIsStoppedIsReplaced) {
  Start({"--heartbeat-timeout", "0.5"});
  ASSERT_EQ(::kill(Status().worker_pid, SIGSTOP), 0);
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_TRUE(LogHas("no heartbeat"));
}

TEST_F(SupervisorWorkerLossTest, ACrashLoopBacksOffAndStaysVisible) {
  WriteSecret("good");
  WriteModel({"behaviour: env", "variable: TOKEN", "upload: crash", "only_if: TOKEN=bad"});
  Start();
  // The failing secrets are all there is from the second generation on.
  ASSERT_TRUE(WaitForGeneration(1));
  WriteSecret("bad");
  ASSERT_TRUE(WaitFor([&] { return Receipts().size() >= 2; }));
  ASSERT_TRUE(WaitForGeneration(4));
  EXPECT_TRUE(LogHas("trying again in"));
}

}  // namespace
}  // namespace baton::testing

// Reload, end to end: real processes, real secrets files, a service that never stops asking, and an
// observer of device memory that is none of ours. What each kind of change and of failure does is
// in tests/runtime/supervisor.
#include <gtest/gtest.h>

#include <csignal>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "tests/system/system_test_base.h"

namespace baton::testing {
namespace {

constexpr char kDetected[] = "Detected secrets change, initiating subprocess-based model reload...";
constexpr char kCreating[] = "Creating new model instance in isolated subprocess...";
constexpr char kCreated[] = "Subprocess: Model created successfully";
constexpr char kLoaded[] = "Successfully loaded model from subprocess";
constexpr char kCompleted[] = "Subprocess-based model reload sequence completed successfully";
constexpr uint64_t kWeights = 8 << 20;

using ReloadTest = SystemTest;

std::vector<std::string> EnvProbe(std::vector<std::string> more = {}) {
  more.insert(more.end(),
              {"behaviour: env", "variable: API_KEY", absl::StrCat("weights_bytes: ", kWeights)});
  return more;
}

// A17, A18, A20, A21, A25: the whole promise, at once.
TEST_F(ReloadTest, SecretsRotateUnderLoadAndNothingFails) {
  SetSecret("API_KEY", "first-value");
  Serve(EnvProbe());
  DeviceObserver observer(server_->pid());
  Load load(*front_);
  ASSERT_TRUE(load.WaitForAnswers(100));
  SetSecret("API_KEY", "second-value");
  ASSERT_TRUE(WaitForGeneration(2));
  ASSERT_TRUE(load.WaitForAnswers(100));
  load.Stop();
  observer.Stop();

  EXPECT_TRUE(load.errors().empty()) << load.errors().front();
  ASSERT_EQ(load.changes().size(), 2u);  // generations never go back, and values belong to them
  EXPECT_EQ(load.changes()[0].generation, 1u);
  EXPECT_EQ(load.changes()[0].value, "first-value");
  EXPECT_EQ(load.changes()[1].generation, 2u);
  EXPECT_EQ(load.changes()[1].value, "second-value");
  EXPECT_NE(load.changes()[0].pid, load.changes()[1].pid);
  EXPECT_NE(::kill(static_cast<pid_t>(load.changes()[0].pid), 0), 0) << "the old worker lives";

  EXPECT_GT(observer.samples(), 0u);
  EXPECT_EQ(observer.peak_arenas(), 1u) << "two generations held device memory at once";
  EXPECT_LE(observer.peak_bytes(), kWeights * 102 / 100);
  EXPECT_GE(observer.peak_bytes(), kWeights) << "the observer saw nothing";

  ASSERT_TRUE(WaitForReceipts(1));
  const std::string receipt = server_->Receipts().front();
  EXPECT_TRUE(absl::StrContains(receipt, "\"verdict\":\"freed\"")) << receipt;
  EXPECT_TRUE(absl::StrContains(receipt, "\"outcome\":\"swapped\"")) << receipt;
  const std::string log = server_->Log();
  size_t at = 0;
  for (const char* line : {kDetected, kCreating, kCreated, kLoaded, kCompleted}) {
    at = log.find(line, at);
    ASSERT_NE(at, std::string::npos) << line << " is missing, or out of order, in:\n" << log;
  }
}

// A31: a worker that crashes fails only what it had started, and is replaced.
TEST_F(ReloadTest, CrashFailsOnlyWhatWasStarted) {
  Serve({"behaviour: crash"});
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  const auto submit = [&](int32_t value) {
    absl::StatusOr<Request> request = channel->NewRequest({{"data", DType::kInt32, {1}}});
    EXPECT_TRUE(request.ok()) << request.status();
    request->input<int32_t>(0)[0] = value;
    absl::StatusOr<Ticket> ticket =
        channel->Submit(*std::move(request), {.timeout = absl::Minutes(1)});
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return *ticket;
  };
  const Ticket before = submit(1);
  const Ticket fatal = submit(666);
  const Ticket after = submit(2);
  std::map<uint64_t, absl::StatusOr<Response>> outcomes;
  while (outcomes.size() < 3) {
    std::optional<Outcome> outcome = channel->Wait(absl::Minutes(1));
    ASSERT_TRUE(outcome.has_value());
    outcomes.emplace(outcome->ticket.id, std::move(outcome->response));
  }
  EXPECT_TRUE(outcomes.at(before.id).ok());
  EXPECT_TRUE(absl::IsAborted(outcomes.at(fatal.id).status())) << outcomes.at(fatal.id).status();
  ASSERT_TRUE(outcomes.at(after.id).ok()) << outcomes.at(after.id).status();
  EXPECT_EQ(outcomes.at(after.id)->generation(), 2u);
}

// A32: the front keeps time by itself.
TEST_F(ReloadTest, DeadlineHoldsWhileTheWorkerIsStuck) {
  Serve({"behaviour: hang"}, "reload: {cleanup_timeout: 200ms, drain_timeout: 200ms}\n");
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  absl::StatusOr<Request> request = channel->NewRequest({{"data", DType::kInt32, {1}}});
  ASSERT_TRUE(request.ok()) << request.status();
  request->input<int32_t>(0)[0] = 666;
  const absl::StatusOr<Response> response =
      channel->Call(*std::move(request), {.timeout = absl::Milliseconds(100)});
  EXPECT_TRUE(absl::IsDeadlineExceeded(response.status())) << response.status();
}

}  // namespace
}  // namespace baton::testing

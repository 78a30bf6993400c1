// Reload, end to end: real processes, real secrets files, a service that never stops asking.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
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

// A12, A13: each kind of change is one reload, a touch is none, a deleted secret is gone.
TEST_F(ReloadTest, EveryChangeReloadsOnceAndATouchDoesNot) {
  SetSecret("OTHER", "1");
  Serve(EnvProbe());
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_FALSE(AskEnv(*channel)->present);

  SetSecret("API_KEY", "added");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(AskEnv(*channel)->value, "added");

  SetSecret("API_KEY", "modified");
  ASSERT_TRUE(WaitForGeneration(3));
  EXPECT_EQ(AskEnv(*channel)->value, "modified");

  // The same content again, then something new: had the first been a reload, there would be two.
  SetSecret("API_KEY", "modified");
  std::filesystem::last_write_time(secrets_ + "/app/app",
                                   std::filesystem::file_time_type::clock::now());
  RemoveSecret("API_KEY");
  ASSERT_TRUE(WaitForGeneration(4));
  const absl::StatusOr<EnvAnswer> removed = AskEnv(*channel);
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_FALSE(removed->present) << "the deleted secret is still set";
  ASSERT_TRUE(WaitForReceipts(3));
  EXPECT_EQ(server_->Receipts().size(), 3u);
  EXPECT_EQ(LogCount(kDetected), 3u);
}

// A14: a directory that is not there yet.
TEST_F(ReloadTest, SecretsDirectoryThatAppearsLaterIsNoticed) {
  options_.secrets_directory = secrets_;
  Serve(EnvProbe());
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  SetSecret("API_KEY", "late");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(AskEnv(*channel)->value, "late");
}

// A15: a change while a new worker is loading converges to the newest.
TEST_F(ReloadTest, ChangeDuringALoadConvergesToTheNewest) {
  SetSecret("API_KEY", "a");
  Serve(EnvProbe({"load_ms: 300"}));
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  SetSecret("API_KEY", "b");
  ASSERT_TRUE(WaitFor([&] { return front_->state() != "SERVING"; }));
  SetSecret("API_KEY", "c");
  EXPECT_TRUE(WaitFor([&] {
    const absl::StatusOr<EnvAnswer> answer = AskEnv(*channel);
    return answer.ok() && answer->value == "c";
  }));
}

// A19: a load that fails, crashes or takes too long (A26: longer than the load_timeout of its config)
// keeps the old model with its old secrets.
class FailingLoadTest : public SystemTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(FailingLoadTest, KeepsTheOldModelWithItsOldSecrets) {
  SetSecret("API_KEY", "good");
  Serve(EnvProbe({absl::StrCat("load: ", GetParam()), "only_if: API_KEY=bad"}),
        "reload: {load_timeout: 2s}\n");
  Load load(*front_);
  ASSERT_TRUE(load.WaitForAnswers(10));
  SetSecret("API_KEY", "bad");
  ASSERT_TRUE(WaitForReceipts(1));
  ASSERT_TRUE(load.WaitForAnswers(10));
  EXPECT_TRUE(absl::StrContains(server_->Receipts().front(), "\"outcome\":\"kept-old\""))
      << server_->Receipts().front();
  // And it can still move on.
  SetSecret("API_KEY", "better");
  ASSERT_TRUE(WaitFor([&] { return Generation() > 1 && front_->state() == "SERVING"; }));
  ASSERT_TRUE(load.WaitForAnswers(10));
  load.Stop();
  EXPECT_TRUE(load.errors().empty()) << load.errors().front();
  ASSERT_EQ(load.changes().size(), 2u);
  EXPECT_EQ(load.changes()[0].value, "good");
  EXPECT_EQ(load.changes()[1].value, "better");
}

INSTANTIATE_TEST_SUITE_P(Loads, FailingLoadTest, ::testing::Values("fail", "crash", "hang"));

// A16: no secret value reaches anything that the processes write.
TEST_F(ReloadTest, SecretValuesReachNoLogReceiptOrCommandLine) {
  SetSecret("API_KEY", "top-secret-one");
  Serve(EnvProbe({"load: fail", "only_if: API_KEY=top-secret-two"}));
  SetSecret("API_KEY", "top-secret-two");
  ASSERT_TRUE(WaitForReceipts(1));
  SetSecret("API_KEY", "top-secret-three");
  ASSERT_TRUE(WaitForReceipts(2));
  std::string everything = server_->Log();
  for (const std::string& receipt : server_->Receipts()) everything += receipt;
  for (const pid_t worker : server_->Workers()) {
    std::ifstream line(absl::StrCat("/proc/", worker, "/cmdline"));
    everything += std::string(std::istreambuf_iterator<char>(line), {});
  }
  EXPECT_FALSE(absl::StrContains(everything, "top-secret")) << everything;
}

// A23: cleanup() runs once on reload and once at shutdown, and one that throws or hangs blocks
// nothing.
TEST_F(ReloadTest, CleanupRunsOnceOnReloadAndOnceAtShutdown) {
  SetSecret("API_KEY", "a");
  const std::string file = temp_.path() + "/cleanups";
  Serve(EnvProbe({"cleanup_file: " + file}));
  const auto cleanups = [&] {
    std::ifstream in(file);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  };
  SetSecret("API_KEY", "b");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(cleanups().size(), 1u);
  ASSERT_TRUE(server_->Stop().ok());
  ASSERT_EQ(cleanups().size(), 2u);
  EXPECT_NE(cleanups()[0], cleanups()[1]);
}

class BadCleanupTest : public SystemTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(BadCleanupTest, BlocksNothing) {
  SetSecret("API_KEY", "a");
  Serve(EnvProbe({absl::StrCat("cleanup: ", GetParam())}), "reload: {cleanup_timeout: 500ms}\n");
  SetSecret("API_KEY", "b");
  ASSERT_TRUE(WaitForGeneration(2));
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_TRUE(absl::StrContains(server_->Receipts().front(), "\"verdict\":\"freed\""));
  absl::StatusOr<ipc::ExitStatus> stopped = server_->Stop();
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_TRUE(stopped->clean()) << ipc::ToString(*stopped);
}

INSTANTIATE_TEST_SUITE_P(Cleanups, BadCleanupTest, ::testing::Values("throw", "hang"));

// A24: watching can be switched off in four ways; what was there at start is still loaded.
class DisabledReloadTest : public SystemTest, public ::testing::WithParamInterface<int> {};

TEST_P(DisabledReloadTest, LoadsSecretsButDoesNotWatchThem) {
  const std::pair<std::string, std::string> variables[] = {
      {"BATON_DISABLE_SECRETS_RELOAD", "1"},
      {"BATON_DISABLE_SECRETS_RELOAD", "true"},
      {"CLARIFAI_DISABLE_SECRETS_RELOAD", "yes"}};
  if (GetParam() == 0) {
    options_.extra_args = {"--disable-secrets-reload"};
  } else {
    options_.env[variables[GetParam() - 1].first] = variables[GetParam() - 1].second;
  }
  SetSecret("API_KEY", "at-start");
  Serve(EnvProbe());
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ(AskEnv(*channel)->value, "at-start");
  SetSecret("API_KEY", "changed");
  // A worker's death brings up the next generation, by the same path as a reload: had the change
  // been noticed, it would come first.
  const pid_t worker = server_->Workers().front();
  ASSERT_EQ(::kill(worker, SIGKILL), 0);
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(LogCount(kDetected), 0u);
}

INSTANTIATE_TEST_SUITE_P(Ways, DisabledReloadTest, ::testing::Range(0, 4));

// A30: SIGTERM lets what runs end.
TEST_F(ReloadTest, SigtermDrains) {
  Serve({"behaviour: slow", "ms: 300"});
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  absl::StatusOr<Request> request = channel->NewRequest({{"data", DType::kUInt8, {4}}});
  ASSERT_TRUE(request.ok()) << request.status();
  absl::StatusOr<Ticket> ticket = channel->Submit(*std::move(request));
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  // Wait until the model runs, so that there is something to drain.
  ASSERT_TRUE(WaitFor([&] { return server_->Workers().size() == 1; }));
  std::optional<Outcome> early = channel->Wait(absl::Milliseconds(100));
  EXPECT_FALSE(early.has_value());
  absl::StatusOr<ipc::ExitStatus> stopped = server_->Stop();
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_TRUE(stopped->clean()) << ipc::ToString(*stopped);
  std::optional<Outcome> outcome = channel->Wait(absl::Seconds(10));
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->response.ok()) << outcome->response.status();
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

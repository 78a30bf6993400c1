// Reloads of a real server: what becomes of the worker, its memory and its
// secrets.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

#include "tests/runtime/supervisor/supervisor_fixture.h"

namespace baton::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t kWeightsBytes = 1 << 20;

class SupervisorReloadTest : public SupervisorFixture {};

TEST_F(SupervisorReloadTest, A12_A18_ASecretIsInTheEnvironmentAndItsChangeReloads) {
  WriteSecret("one\n");
  Start({}, {{"TOKEN", "inherited"}});
  EXPECT_EQ(AskForSecret(), "one");  // the file's value counts, not the inherited one
  WriteSecret("two\n");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(AskForSecret(), "two");
  std::filesystem::remove(secrets_ + "/TOKEN");
  ASSERT_TRUE(WaitForGeneration(3));
  EXPECT_EQ(AskForSecret(), "inherited");  // what was deleted is gone
  EXPECT_EQ(Status().reloads, 2);
}

TEST_F(SupervisorReloadTest, A25_TheLogLinesComeInOrder) {
  WriteSecret("one");
  Start();
  WriteSecret("two");
  ASSERT_TRUE(WaitForGeneration(2));
  std::string log = server_->Log();
  size_t at = log.find("Detected secrets change, initiating subprocess-based model reload...");
  ASSERT_NE(at, std::string::npos);
  for (const char* line :
       {"Creating new model instance in isolated subprocess...",
        "Subprocess: Model created successfully", "Successfully loaded model from subprocess",
        "Subprocess-based model reload sequence completed successfully"}) {
    const size_t next = log.find(line, at);
    ASSERT_NE(next, std::string::npos) << line;
    at = next;
  }
}

TEST_F(SupervisorReloadTest, A20_A21_TheReceiptProvesThatOneModelWasHeldAtMost) {
  Start();
  EXPECT_EQ(Status().device_bytes, kWeightsBytes);
  const auto reloaded = Client().Reload();
  ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
  EXPECT_EQ(reloaded.verdict, "freed");
  EXPECT_EQ(reloaded.successor, 2);
  EXPECT_EQ(reloaded.trigger, "command");
  const auto receipts = Receipts();
  ASSERT_EQ(receipts.size(), 1);
  EXPECT_EQ(receipts[0].outcome, "swapped");
  EXPECT_EQ(receipts[0].before, kWeightsBytes);
  EXPECT_EQ(receipts[0].after, 0);
  EXPECT_EQ(receipts[0].model, kWeightsBytes);
  EXPECT_GE(receipts[0].peak, kWeightsBytes);
  EXPECT_LE(receipts[0].peak, kWeightsBytes * 102 / 100);
  EXPECT_EQ(receipts[0].exit_kind, "exited");
  EXPECT_EQ(receipts[0].exit_code, 0);
  EXPECT_GT(receipts[0].gap_ns, 0);
  EXPECT_THAT(receipts[0].states,
              ElementsAre("STAGING", "HOLDING", "DRAINING", "CLOSING", "EXITING", "CONFIRMING",
                          "ADMITTING", "REMAPPING", "SERVING"));
  EXPECT_EQ(server_->Workers().size(), 1);
  EXPECT_EQ(Status().device_bytes, kWeightsBytes);
}

TEST_F(SupervisorReloadTest, A13_EachChangeReloadsOnce) {
  WriteSecret("one");
  Start();
  WriteSecretKey("OTHER", "x");
  ASSERT_TRUE(WaitForGeneration(2));
  WriteSecret("two");
  ASSERT_TRUE(WaitForGeneration(3));
  EXPECT_EQ(Receipts().size(), 2);
}

TEST_F(SupervisorReloadTest, A14_ASecretsDirectoryThatAppearsLater) {
  Start();
  EXPECT_EQ(AskForSecret(), "(none)");
  WriteSecret("late");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(AskForSecret(), "late");
}

TEST_F(SupervisorReloadTest, A15_AChangeDuringALoadConverges) {
  WriteSecret("one");
  WriteModel({"behaviour: env", "variable: TOKEN", "load_ms: 1500"});
  Start();
  auto client = Client();
  WriteSecret("two");
  ASSERT_TRUE(WaitFor([&] { return client.Status().state == "STAGING"; }));
  WriteSecret("three");
  ASSERT_TRUE(WaitFor([&] {
    const auto status = client.Status();
    return status.generation > 1 && status.state == "SERVING" && AskForSecret() == "three";
  }));
}

TEST_F(SupervisorReloadTest, A16_NoValueReachesALogOrAReceipt) {
  const std::string hidden = "hunter2-zebra";
  WriteSecret(hidden + "-1");
  temp_.Write("secrets/app/app", "A line without a sign: " + hidden + "\n" + hidden + " = x\n");
  WriteModel({"behaviour: env", "variable: TOKEN", "load: fail", "only_if: BREAK=yes"});
  Start();
  WriteSecret(hidden + "-2");
  ASSERT_TRUE(WaitForGeneration(2));
  WriteSecretKey("BREAK", "yes");
  ASSERT_TRUE(WaitForReceipts(2));
  EXPECT_THAT(server_->Log(), Not(HasSubstr(hidden)));
  EXPECT_THAT(server_->Log(), HasSubstr("app/app:1"));
  for (const std::string& line : server_->Receipts()) EXPECT_THAT(line, Not(HasSubstr(hidden)));
  for (const pid_t pid : MarkedProcesses(mark_)) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    EXPECT_THAT(line, Not(HasSubstr(hidden)));
  }
}

TEST_F(SupervisorReloadTest, A16_AModelThatThrowsItsSecretTellsNobody) {
  const std::string hidden = "hunter2-zebra";
  WriteSecret(hidden);
  WriteModel({"behaviour: env", "variable: TOKEN", "load: leak", "only_if: BREAK=yes"});
  Start();
  WriteSecretKey("BREAK", "yes");
  ASSERT_TRUE(WaitForReceipts(1));
  const auto reloaded = Client().Reload();
  EXPECT_THAT(std::string(reloaded.status.message()), HasSubstr("no such token: ***"));
  EXPECT_THAT(Receipts().at(0).reason, HasSubstr("no such token: ***"));
  EXPECT_THAT(Status().reason, HasSubstr("no such token: ***"));
  EXPECT_THAT(server_->Log(), HasSubstr("no such token: ***"));
  EXPECT_THAT(server_->Log(), Not(HasSubstr(hidden)));
}

class FailingLoadTest : public SupervisorReloadTest,
                        public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(How, FailingLoadTest, ::testing::Values("fail", "crash", "hang"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(FailingLoadTest, A19_A26_ALoadThatDoesNotComeUpKeepsTheOldModelAndItsSecrets) {
  WriteSecret("one");
  WriteModel({"behaviour: env", "variable: TOKEN", std::string("load: ") + GetParam(),
              "only_if: TOKEN=bad"},
             "reload:\n  load_timeout: 3s\n");
  Start();
  const pid_t worker = Status().worker_pid;
  WriteSecret("bad");
  ASSERT_TRUE(WaitForReceipts(1));
  const auto receipt = Receipts()[0];
  EXPECT_EQ(receipt.outcome, "kept-old");
  EXPECT_EQ(receipt.trigger, "secrets");
  EXPECT_EQ(receipt.generation, 1);
  EXPECT_EQ(receipt.successor, 1);
  EXPECT_EQ(receipt.verdict, "none");
  EXPECT_THAT(receipt.states, ElementsAre("STAGING", "SERVING"));
  const auto status = Status();
  EXPECT_EQ(status.state, "SERVING");
  EXPECT_EQ(status.worker_pid, worker);
  EXPECT_THAT(status.reason, HasSubstr("generation 2 failed"));
  EXPECT_EQ(AskForSecret(), "one");
  EXPECT_TRUE(WaitFor([&] { return server_->Workers().size() == 1; }));
  WriteSecret("good");  // and the next change is tried
  ASSERT_TRUE(WaitForGeneration(3));
  EXPECT_EQ(AskForSecret(), "good");
  EXPECT_EQ(Status().reason, "");
}

class FailingUploadTest : public FailingLoadTest {};
INSTANTIATE_TEST_SUITE_P(How, FailingUploadTest, ::testing::Values("fail", "crash"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(FailingUploadTest, PastTheOldWorkersEndItComesBackWithTheLastGoodSecrets) {
  WriteSecret("one");
  WriteModel({"behaviour: env", "variable: TOKEN", "weights_bytes: 1048576",
              std::string("upload: ") + GetParam(), "only_if: TOKEN=bad"});
  Start();
  WriteSecret("bad");
  ASSERT_TRUE(WaitForGeneration(4));  // 2 and 3 tried the new ones
  EXPECT_EQ(AskForSecret(), "one");
  EXPECT_THAT(Status().reason, HasSubstr("last good"));
  const auto receipts = Receipts();
  ASSERT_EQ(receipts.size(), 3);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(receipts[i].outcome, "failed");
    EXPECT_EQ(receipts[i].generation, i + 2);
    EXPECT_EQ(receipts[i].verdict, "freed");
  }
  EXPECT_EQ(receipts[2].outcome, "swapped");
  EXPECT_EQ(receipts[2].generation, 1);
  EXPECT_EQ(receipts[2].successor, 4);
  EXPECT_LE(receipts[2].peak, kWeightsBytes * 102 / 100);
}

class CleanupTest : public SupervisorReloadTest,
                    public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(That, CleanupTest, ::testing::Values("works", "throw", "hang"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(CleanupTest, A23_CleanupRunsOnceOnReloadAndOnceOnStopAndBlocksNothing) {
  const std::string file = temp_.path() + "/cleaned";
  std::vector<std::string> options = {"behaviour: echo", "weights_bytes: 1048576",
                                      "cleanup_file: " + file};
  if (std::string(GetParam()) != "works") options.push_back(std::string("cleanup: ") + GetParam());
  WriteModel(options, "reload:\n  cleanup_timeout: 500ms\n");
  Start();
  const pid_t first = Status().worker_pid;
  const auto reloaded = Client().Reload();
  ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
  EXPECT_EQ(reloaded.verdict, "freed");
  const pid_t second = Status().worker_pid;
  const auto ended = server_->Stop();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(ended->clean());
  std::vector<std::string> pids;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) pids.push_back(line);
  EXPECT_THAT(pids, ElementsAre(std::to_string(first), std::to_string(second)));
  const auto receipts = Receipts();
  ASSERT_EQ(receipts.size(), 2);
  EXPECT_EQ(receipts[0].exit_kind, std::string(GetParam()) == "hang" ? "signalled" : "exited");
  EXPECT_EQ(receipts[1].outcome, "stopped");
  EXPECT_EQ(receipts[1].trigger, "stop");
  EXPECT_EQ(receipts[1].verdict, "freed");
}

TEST_F(SupervisorReloadTest, AModelWhoseSignatureChangesIsNotSwappedIn) {
  WriteModel({"behaviour: echo"});
  Start();
  WriteModel({"behaviour: crash"});
  const auto reloaded = Client().Reload();
  EXPECT_EQ(reloaded.status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(reloaded.outcome, "kept-old");
  EXPECT_THAT(reloaded.reason, HasSubstr("signature"));
  EXPECT_EQ(Status().generation, 1);
}

TEST_F(SupervisorReloadTest, AConfigurationThatIsBrokenKeepsTheOldModel) {
  WriteModel({"behaviour: echo"});
  Start();
  temp_.Write("model/config.yaml", "loader: native\nfiel: x.so\n");
  const auto reloaded = Client().Reload();
  EXPECT_EQ(reloaded.outcome, "kept-old");
  EXPECT_THAT(reloaded.reason, HasSubstr("fiel"));
  EXPECT_EQ(Status().state, "SERVING");
}

struct Disabled {
  std::string name;
  std::vector<std::string> args;
  std::map<std::string, std::string> env;
};
void PrintTo(const Disabled& disabled, std::ostream* out) { *out << disabled.name; }
class DisabledReloadTest : public SupervisorReloadTest,
                           public ::testing::WithParamInterface<Disabled> {};
INSTANTIATE_TEST_SUITE_P(
    By, DisabledReloadTest,
    ::testing::Values(Disabled{"Flag", {"--disable-secrets-reload"}, {}},
                      Disabled{"Baton", {}, {{"BATON_DISABLE_SECRETS_RELOAD", "True"}}},
                      Disabled{"Clarifai", {}, {{"CLARIFAI_DISABLE_SECRETS_RELOAD", "YES"}}}),
    [](const auto& info) { return info.param.name; });

TEST_P(DisabledReloadTest, A24_SecretsAreLoadedButAChangeReloadsNothing) {
  WriteSecret("one");
  Start(GetParam().args, GetParam().env);
  EXPECT_EQ(AskForSecret(), "one");
  EXPECT_FALSE(Status().secrets_reload);
  WriteSecret("two");
  const auto reloaded = Client().Reload();  // by hand it works, and loads what is there
  ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
  EXPECT_EQ(reloaded.successor, 2);
  EXPECT_EQ(AskForSecret(), "two");
  EXPECT_EQ(Receipts().size(), 1);
  EXPECT_EQ(Receipts()[0].trigger, "command");
}

// A22, in small: what one reload leaves behind, many show.
TEST_F(SupervisorReloadTest, A22_ReloadsLeaveNothingBehind) {
  Start();
  auto front = server_->Attach();
  ASSERT_TRUE(front.ok()) << front.status();
  auto channel = (*front)->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto client = Client();
  ASSERT_TRUE(client.Reload().status.ok());  // what is made once is made
  const int descriptors = OpenDescriptors(server_->pid());
  constexpr int kReloads = 20;
  for (int i = 0; i < kReloads; ++i) {
    const auto reloaded = client.Reload();
    ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
    EXPECT_EQ(reloaded.verdict, "freed");
  }
  EXPECT_EQ(OpenDescriptors(server_->pid()), descriptors);
  EXPECT_EQ(server_->Workers().size(), 1);
  EXPECT_EQ(Status().generation, kReloads + 2);
}

TEST_F(SupervisorReloadTest, A17_RequestsInFlightEndAndNoneFails) {
  WriteModel({"behaviour: slow", "ms: 5"});
  Start();
  auto front = server_->Attach();
  ASSERT_TRUE(front.ok()) << front.status();
  auto channel = (*front)->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto client = Client();
  absl::Status reloaded;
  std::thread reloader([&] {
    for (int i = 0; i < 3 && reloaded.ok(); ++i) reloaded = client.Reload().status;
  });
  uint64_t generation = 0;
  int answered = 0;
  while (generation < 4) {
    auto request = channel->NewRequest({{"data", DType::kUInt8, {4}}});
    ASSERT_TRUE(request.ok()) << request.status();
    auto response = channel->Call(*std::move(request));
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) break;
    EXPECT_GE(response->generation(), generation);
    generation = response->generation();
    ++answered;
  }
  reloader.join();
  EXPECT_TRUE(reloaded.ok()) << reloaded;
  EXPECT_GT(answered, 3);
}

}  // namespace
}  // namespace baton::testing

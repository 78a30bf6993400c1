// SIGKILL of supervisor, worker or front at a random moment under load, again and again (A30, A31,
// R1, R2, R11): every request that was accepted ends exactly once, nothing is left behind, and a
// server that was restarted serves.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"

#include "tests/crash/front_process.h"
#include "tests/system/test_server.h"

namespace baton::testing {
namespace {

int Rounds() {
  const char* asked = std::getenv("BATON_KILL_ROUNDS");
  return asked == nullptr ? 100 : std::atoi(asked);
}

class KillStormTest : public ::testing::Test {
 protected:
  KillStormTest() : run_directory_(temp_.path() + "/run"), mark_(temp_.path()) {
    ::mkdir(run_directory_.c_str(), 0700);
    model_ = ProbeModel(temp_, {"behaviour: echo"});
  }

  void StartServer(const std::map<std::string, std::string>& env = {}) {
    TestServerOptions options{.directory = model_, .run_directory = run_directory_};
    options.env = env;
    options.env["BATON_TEST_MARK"] = mark_;
    absl::StatusOr<std::unique_ptr<TestServer>> server = TestServer::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  void ExpectNothingLeft() {
    EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(mark_).empty(); }))
        << MarkedProcesses(mark_).size() << " processes are left";
    EXPECT_TRUE(WaitFor([] { return SharedMemoryNames().empty(); }))
        << SharedMemoryNames().front() << " is left in /dev/shm";
    EXPECT_EQ(Zombies(), 0);
  }

  pid_t Worker() const {
    const std::vector<pid_t> workers = server_->Workers();
    return workers.empty() ? 0 : workers.front();
  }

  TempDirectory temp_;
  const std::string run_directory_;
  const std::string mark_;
  std::string model_;
  std::unique_ptr<TestServer> server_;
};

void ExpectTallyAddsUp(const FrontTally& tally) {
  EXPECT_EQ(tally.wrong.load(), 0u);
  EXPECT_EQ(tally.other.load(), 0u);
  EXPECT_EQ(tally.leaked_blocks.load(), 0u);
  EXPECT_EQ(tally.submitted.load(),
            tally.answered.load() + tally.aborted.load() + tally.unavailable.load());
}

TEST_F(KillStormTest, RandomKillsLoseNothingAndLeaveNothing) {
  std::mt19937 random(20240607);
  StartServer();
  int front_number = 0;
  const int rounds = Rounds();
  const int descriptors = OpenDescriptors(::getpid());
  int killed[3] = {0, 0, 0};
  for (int round = 0; round < rounds && !HasFatalFailure(); ++round) {
    SCOPED_TRACE(absl::StrCat("round ", round));
    auto front = std::make_unique<FrontProcess>(temp_, run_directory_, mark_, front_number++);
    const int server_descriptors = OpenDescriptors(server_->pid());
    static_cast<void>(server_descriptors);
    ASSERT_TRUE(front->Progress(random() % 300));
    const unsigned victim = random() % 3;
    ++killed[victim];
    switch (victim) {
      case 0: {
        SCOPED_TRACE("supervisor");
        ASSERT_TRUE(server_->process().Kill(SIGKILL).ok());
        ASSERT_TRUE(server_->process().Reap(absl::Minutes(1)).ok());
        absl::StatusOr<ipc::ExitStatus> ended = front->process().Reap(absl::Minutes(2));
        ASSERT_TRUE(ended.ok()) << ended.status();
        EXPECT_TRUE(ended->clean()) << ipc::ToString(*ended);
        ExpectTallyAddsUp(front->tally());
        front.reset();
        server_.reset();
        ExpectNothingLeft();
        StartServer();
        break;
      }
      case 1: {
        SCOPED_TRACE("worker");
        const pid_t worker = Worker();
        ASSERT_NE(worker, 0);
        ASSERT_EQ(::kill(worker, SIGKILL), 0);
        // The next one serves this very front on this very channel.
        EXPECT_TRUE(front->Progress(10));
        ASSERT_TRUE(WaitFor([&] { return Worker() != 0 && Worker() != worker; }));
        absl::StatusOr<ipc::ExitStatus> ended = front->Finish();
        ASSERT_TRUE(ended.ok()) << ended.status();
        EXPECT_TRUE(ended->clean()) << ipc::ToString(*ended);
        ExpectTallyAddsUp(front->tally());
        // One request runs at a time.
        EXPECT_LE(front->tally().aborted.load(), 1u);
        EXPECT_EQ(front->tally().unavailable.load(), 0u);
        break;
      }
      default: {
        SCOPED_TRACE("front");
        ASSERT_TRUE(front->process().Kill(SIGKILL).ok());
        ASSERT_TRUE(front->process().Reap(absl::Minutes(1)).ok());
        front.reset();
        // R11: its descriptors go, and the server serves others.
        FrontProcess next(temp_, run_directory_, mark_, front_number++);
        EXPECT_TRUE(next.Progress(10));
        absl::StatusOr<ipc::ExitStatus> ended = next.Finish();
        ASSERT_TRUE(ended.ok()) << ended.status();
        ExpectTallyAddsUp(next.tally());
        break;
      }
    }
  }
  EXPECT_GT(killed[0] * killed[1] * killed[2], 0) << "every kind of process must have been killed";
  // No front is left: the supervisor holds nothing of any of them.
  EXPECT_TRUE(WaitFor([&] { return OpenDescriptors(server_->pid()) <= 40; }))
      << OpenDescriptors(server_->pid()) << " descriptors are open in the supervisor";
  ASSERT_TRUE(server_->Stop().ok());
  server_.reset();
  ExpectNothingLeft();
  EXPECT_EQ(OpenDescriptors(::getpid()), descriptors - 1);  // the server's pidfd went
  RecordProperty("kills", rounds);
}

// R1: SIGKILL at every store that the other side can see, by name.
class CrashPointTest : public KillStormTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(CrashPointTest, WorkerDeathLosesAtMostWhatItHadStarted) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  // Every generation dies at its 200th pass (the resume points: at once, so only the first does).
  const bool at_takeover = std::string(GetParam()).find("resume") != std::string::npos;
  StartServer({{"BATON_CRASH_AT", absl::StrCat(GetParam(), ":", at_takeover ? 2 : 200)}});
  if (at_takeover) {
    // Its channel's takeover is the first pass, and it is gone before the second.
    FrontProcess before(temp_, run_directory_, mark_, 1);
    ASSERT_TRUE(before.Progress(50));
    ASSERT_TRUE(before.Finish().ok());
    ExpectTallyAddsUp(before.tally());
  }
  FrontProcess front(temp_, run_directory_, mark_, 0);
  ASSERT_TRUE(front.Progress(500));
  absl::StatusOr<ipc::ExitStatus> ended = front.Finish();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(ended->clean());
  ExpectTallyAddsUp(front.tally());
  EXPECT_GE(front.tally().last_generation.load(), 2u) << "no worker died";
  EXPECT_LE(front.tally().aborted.load(), front.tally().last_generation.load());
  ASSERT_TRUE(server_->Stop().ok());
  server_.reset();
  ExpectNothingLeft();
#endif
}

INSTANTIATE_TEST_SUITE_P(Worker, CrashPointTest,
                         ::testing::Values("worker.entry_read", "worker.taken_published",
                                           "worker.answer_written", "worker.completion_filled",
                                           "worker.completion_published", "worker.resume_begun",
                                           "worker.resume_written"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '.') c = '_';
                           }
                           return name;
                         });

class FrontCrashPointTest : public KillStormTest,
                            public ::testing::WithParamInterface<const char*> {};

TEST_P(FrontCrashPointTest, FrontDeathHurtsNobodyElse) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  StartServer();
  const pid_t worker = Worker();
  FrontProcess other(temp_, run_directory_, mark_, 0);
  ASSERT_TRUE(WaitFor([&] { return other.tally().attached.load() != 0; }));
  FrontProcess victim(temp_, run_directory_, mark_, 1,
                      {{"BATON_CRASH_AT", absl::StrCat(GetParam(), ":100")}});
  absl::StatusOr<ipc::ExitStatus> died = victim.process().Reap(absl::Minutes(1));
  ASSERT_TRUE(died.ok()) << died.status();
  EXPECT_EQ(died->kind, ipc::ExitStatus::Kind::kSignalled);
  EXPECT_EQ(died->value, SIGKILL);
  EXPECT_TRUE(other.Progress(200));
  ASSERT_TRUE(other.Finish().ok());
  ExpectTallyAddsUp(other.tally());
  EXPECT_EQ(other.tally().aborted.load(), 0u);
  EXPECT_EQ(Worker(), worker) << "the worker was replaced";
  ASSERT_TRUE(server_->Stop().ok());
  server_.reset();
  ExpectNothingLeft();
#endif
}

INSTANTIATE_TEST_SUITE_P(Front, FrontCrashPointTest,
                         ::testing::Values("front.block_filled", "front.entry_filled",
                                           "front.entry_published"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '.') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace baton::testing

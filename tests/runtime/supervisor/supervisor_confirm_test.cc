// What a reload does when its confirmation helper dies, hangs or cannot tell,
// with real servers.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "ipc/unique_fd.h"
#include "tests/runtime/supervisor/supervisor_fixture.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;
using Env = std::map<std::string, std::string>;

class SupervisorConfirmTest : public SupervisorFixture {
 protected:
  void StartWith(const Env& env, std::vector<std::string> args = {},
                 const std::string& reload = "") {
    WriteModel({"behaviour: echo", "weights_bytes: 1048576"},
               "reload:\n  confirm_timeout: 300ms\n  helper_timeout: 200ms\n" + reload);
    Start(std::move(args), env);
  }
  // Reloads, and waits until it is known that it is not confirmed.
  void ReloadUnconfirmed() {
    const auto reloaded = Client().Reload();
    EXPECT_EQ(reloaded.status.code(), absl::StatusCode::kUnavailable) << reloaded.status;
    const auto status = Status();
    EXPECT_EQ(status.state, "CONFIRMING");
    EXPECT_FALSE(status.ready);
  }
};

std::string NameOf(pid_t pid) {
  std::string name;
  std::ifstream("/proc/" + std::to_string(pid) + "/comm") >> name;
  return name;
}

TEST_F(SupervisorConfirmTest, TheHelperIsThereBeforeItIsNeededAndGoesWithItsServer) {
  StartWith({});
  const pid_t helper = Status().helper_pid;
  EXPECT_EQ(NameOf(helper), "baton-confirm");
  EXPECT_EQ(Client().Reload().outcome, "swapped");
  EXPECT_EQ(Status().helper_pid, helper);
  ASSERT_TRUE(server_->process().Kill(SIGKILL).ok());
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(mark_).empty(); }));
}

TEST_F(SupervisorConfirmTest, AHelperThatIsKilledIsReplaced) {
  StartWith({});
  const pid_t helper = Status().helper_pid;
  ASSERT_EQ(::kill(helper, SIGKILL), 0);
  EXPECT_TRUE(WaitFor([&] {
    const pid_t now = Status().helper_pid;
    return now != 0 && now != helper;
  }));
  EXPECT_TRUE(WaitFor([&] { return ::kill(helper, 0) != 0; })) << "it is a zombie";
  EXPECT_EQ(Client().Reload().outcome, "swapped");
}

// The first one hangs with the question; the one after it answers.
TEST_F(SupervisorConfirmTest, A27_AHelperThatHangsIsReplacedAndTheReloadGoesOn) {
  for (const char* point : {"confirm.asked@1", "confirm.looked@1"}) {
    SCOPED_TRACE(point);
    StartWith({{"BATON_STOP_AT", point}});
    const pid_t helper = Status().helper_pid;
    const auto reloaded = Client().Reload();
    if (!reloaded.status.ok()) {  // it was told that it is not confirmed yet
      EXPECT_THAT(std::string(reloaded.status.message()), HasSubstr("did not answer within 200ms"));
    }
    EXPECT_TRUE(WaitForGeneration(2));
    EXPECT_EQ(Receipts().at(0).verdict, "freed");
    EXPECT_TRUE(LogHas("did not answer within 200ms"));
    EXPECT_NE(Status().helper_pid, helper);
    EXPECT_TRUE(WaitFor([&] { return ::kill(helper, 0) != 0; }));
    server_.reset();
  }
}

TEST_F(SupervisorConfirmTest, AHelperThatDiesOverTheQuestionIsReplacedAndTheReloadGoesOn) {
  for (const char* point : {"confirm.asked@1", "confirm.looked@1"}) {
    SCOPED_TRACE(point);
    StartWith({{"BATON_CRASH_AT", point}});
    const auto reloaded = Client().Reload();
    if (!reloaded.status.ok()) {  // on a busy machine the next helper is later than confirm_timeout
      EXPECT_THAT(std::string(reloaded.status.message()), HasSubstr("is not confirmed freed"));
    }
    EXPECT_TRUE(WaitForGeneration(2));
    ASSERT_TRUE(WaitForReceipts(1));
    EXPECT_EQ(Receipts().at(0).verdict, "freed");
    server_.reset();
  }
}

TEST_F(SupervisorConfirmTest, AHelperThatCannotBeStartedAtFirstIsStartedLater) {
  StartWith({{"BATON_FAIL_AT", "supervisor.spawn_helper"}});
  EXPECT_TRUE(LogHas("supervisor.spawn_helper"));
  EXPECT_EQ(Client().Reload().outcome, "swapped");
}

// Every helper dies: nobody ever says that it is freed, and nothing allocates.
TEST_F(SupervisorConfirmTest, A27_WithoutAnAnswerNothingAllocates) {
  StartWith({{"BATON_CRASH_AT", "confirm.asked"}});
  ReloadUnconfirmed();
  EXPECT_EQ(Status().last_verdict, "unknown");
  EXPECT_THAT(Status().reason, HasSubstr("confirmation helper"));
  EXPECT_EQ(Status().generation, 1u);
  EXPECT_EQ(Status().device_bytes, 1u << 20) << "another one was admitted";
  const auto stopped = server_->Stop();
  EXPECT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_EQ(Receipts().back().verdict, "unknown");
}

TEST_F(SupervisorConfirmTest, A27_FreedOnceIsNotEnough) {
  StartWith({{"BATON_TEST_CONFIRM", "alternate"}},
            {"--confirm-helper", std::getenv("BATON_SCRIPTED_CONFIRM")});
  ReloadUnconfirmed();
  EXPECT_EQ(Status().last_verdict, "unknown");
}

TEST_F(SupervisorConfirmTest, WhatTheDriverHoldsIsSaidInStatusAndReceipt) {
  StartWith({{"BATON_TEST_CONFIRM", "driver"}},
            {"--confirm-helper", std::getenv("BATON_SCRIPTED_CONFIRM")},
            "  on_unconfirmed: override\n");
  EXPECT_EQ(Client().Reload().outcome, "swapped");
  EXPECT_EQ(Status().last_verdict, "driver-held");
  EXPECT_EQ(Receipts().at(0).verdict, "driver-held");
}

TEST_F(SupervisorConfirmTest, AReceiptSaysHowEachFactIsKnown) {
  WriteSecret("x");
  StartWith({});
  FrontOptions options;
  options.import_device = true;
  auto front = server_->Attach(options);
  ASSERT_TRUE(front.ok()) << front.status();
  ASSERT_TRUE(WaitFor([&] { return (*front)->imported_generation() == 1; }));
  ASSERT_EQ(Client().Reload().outcome, "swapped");
  const ReceiptLine receipt = Receipts().at(0);
  EXPECT_THAT(
      receipt.evidence,
      ::testing::IsSupersetOf(std::map<std::string, std::string>{
          {"worker-exited", "exited with 0 (pidfd and waitid)"},
          {"imports-closed",
           "acknowledged by 1 fronts, 0 dead, 0 cut off (importsClosed, or the end of a "
           "connection)"},
          {"device-freed", "freed (confirmation helper: F_SEAL_WRITE + st_blocks)"},
          {"requests-not-started",
           "0 waited for the successor (ring positions when it was told to serve)"},
          {"secrets-applied", "1 to generation 2 (sealed memfd that it was started with)"}}));
  EXPECT_THAT(receipt.evidence.at("device-peak"), HasSubstr("1048576 bytes (st_blocks"));
  EXPECT_EQ(receipt.successor_pid, Status().worker_pid);
  EXPECT_EQ(receipt.holders, "");
}

// The arena of a worker that is still uploading, as somebody who got hold of it has it.
ipc::UniqueFd ArenaOf(pid_t worker) {
  const std::string folder = "/proc/" + std::to_string(worker) + "/fd";
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(folder, gone)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (!absl::StrContains(target, "baton-device")) continue;
    return ipc::UniqueFd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
  }
  return {};
}

// A server whose generation 2 was killed while it uploaded, and whose arena this process maps.
class SupervisorUploadTest : public SupervisorConfirmTest {
 protected:
  void PinWhatDiedUploading() {
    WriteSecret("good");
    WriteModel({"behaviour: env", "variable: TOKEN", "weights_bytes: 1048576", "upload: hang",
                "only_if: TOKEN=bad"},
               "reload:\n  confirm_timeout: 300ms\n");
    Start();
    WriteSecret("bad");
    ipc::UniqueFd arena;
    pid_t uploading = 0;
    ASSERT_TRUE(WaitFor([&] {
      for (const pid_t worker : server_->Workers()) {
        if (Status().state != "ADMITTING") continue;
        arena = ArenaOf(worker);
        uploading = worker;
      }
      return arena.valid();
    }));
    mapped_ = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_SHARED, arena.get(), 0);
    ASSERT_NE(mapped_, MAP_FAILED);
    arena.reset();
    EXPECT_TRUE(WaitFor([&] { return Status().device_bytes == 1u << 20; })) << "it is watched";
    ASSERT_EQ(::kill(uploading, SIGKILL), 0);
    EXPECT_TRUE(WaitFor([&] { return Status().last_verdict == verdict_; }))
        << Status().last_verdict;
    EXPECT_EQ(Status().state, "CONFIRMING");
    EXPECT_EQ(Status().device_bytes, 1u << 20);
  }
  void Unpin() { ::munmap(std::exchange(mapped_, MAP_FAILED), 1 << 20); }
  ~SupervisorUploadTest() override {
    if (mapped_ != MAP_FAILED) Unpin();
  }

  const std::string verdict_ = absl::StrCat("pinned-by ", ::getpid());
  void* mapped_ = MAP_FAILED;
};

// Nothing was said of it when it was announced only with `ready`: the successor of this one
// was admitted beside it.
TEST_F(SupervisorUploadTest, A27_WhatAWorkerThatDiedWhileUploadingLeavesIsNotFreed) {
  ASSERT_NO_FATAL_FAILURE(PinWhatDiedUploading());
  Unpin();
  EXPECT_TRUE(WaitForReceipts(1));
  const ReceiptLine receipt = Receipts().at(0);
  EXPECT_EQ(receipt.outcome, "failed");
  EXPECT_EQ(receipt.generation, 2u);
  EXPECT_EQ(receipt.verdict, "freed");
}

// Its own receipt says so: that of the reload is about another generation.
TEST_F(SupervisorUploadTest, A27_AnOverrideOfAGenerationThatNeverServedIsRecorded) {
  ASSERT_NO_FATAL_FAILURE(PinWhatDiedUploading());
  WriteSecret("good");
  ASSERT_TRUE(Client()
                  .Send([](auto to) {
                    to.initReload().setTrigger("command");
                    to.getReload().setOverrideUnconfirmed(true);
                  })
                  .ok());
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_EQ(Receipts().at(0).outcome, "failed");
  EXPECT_EQ(Receipts().at(0).generation, 2u);
  EXPECT_EQ(Receipts().at(0).verdict, verdict_);
  EXPECT_THAT(server_->Receipts().at(0), HasSubstr("\"overridden\":true"));
}

}  // namespace
}  // namespace baton::testing

// Which of the processes that are inherited are killed, and which are only reaped.
#include "runtime/supervisor/orphans.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "absl/strings/match.h"

#include "ipc/futex.h"

namespace baton::runtime {
namespace {

class OrphansTest : public ::testing::Test {
 protected:
  void SetUp() override {
    loop_ = *EventLoop::Create();
    orphans_ = std::make_unique<Orphans>(
        *loop_, MakeServerLog("test"),
        Orphans::Owner{.is_ours = [](pid_t) { return false; },
                       .lives = [](uint64_t generation) { return generation == 2; }});
    if (const absl::Status begun = orphans_->Begin(); !begun.ok()) GTEST_SKIP() << begun;
  }
  // A process with this environment, whose parent has ended. It sleeps for long.
  static pid_t Orphan(const std::string& variable) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t parent = ::fork();
    if (parent == 0) {
      const pid_t orphan = ::fork();
      if (orphan == 0) {
        const char* const argv[] = {"sleep", "1000", nullptr};
        const char* const environment[] = {variable.c_str(), nullptr};
        ::execve("/bin/sleep", const_cast<char**>(argv), const_cast<char**>(environment));
        ::_exit(1);
      }
      ::_exit(::write(ends[1], &orphan, sizeof(orphan)) == sizeof(orphan) ? 0 : 1);
    }
    EXPECT_EQ(::waitpid(parent, nullptr, 0), parent);
    pid_t orphan = 0;
    EXPECT_EQ(::read(ends[0], &orphan, sizeof(orphan)), ssize_t{sizeof(orphan)});
    ::close(ends[0]);
    ::close(ends[1]);
    // Not before it runs the program: until then it has this test's own environment.
    for (bool started = false; !started;) {
      std::ifstream file("/proc/" + std::to_string(orphan) + "/environ", std::ios::binary);
      started = absl::StrContains(std::string{std::istreambuf_iterator<char>(file), {}}, variable);
    }
    return orphan;
  }
  static bool Exists(pid_t pid) { return ::kill(pid, 0) == 0; }
  // Until it was reaped here.
  void RunUntilGone(pid_t pid) {
    while (Exists(pid)) ASSERT_TRUE(loop_->RunOnce(ipc::MonotonicNs() + 10'000'000).ok());
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Orphans> orphans_;
};

TEST_F(OrphansTest, WhatAWorkerLeftIsKilledAndAStrangerLives) {
  const pid_t left = Orphan(WorkerTag(1));
  const pid_t kept = Orphan(WorkerTag(2));  // its worker lives
  const pid_t stranger = Orphan("OTHER=1");
  const pid_t of_another = Orphan("BATON_WORKER=1/1");
  orphans_->Look();
  EXPECT_EQ(orphans_->count(), 4u);
  RunUntilGone(left);
  for (int i = 0; i < 3; ++i) orphans_->Look();
  EXPECT_EQ(orphans_->count(), 3u);
  orphans_.reset();  // at the end of the server every worker is gone
  EXPECT_FALSE(Exists(kept));
  // Both run: nobody has signalled them before this, nor reaped them.
  for (const pid_t pid : {stranger, of_another}) {
    ASSERT_EQ(::kill(pid, SIGUSR1), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
  }
}

TEST_F(OrphansTest, A30_AStrangerThatEndsIsNoZombie) {
  const pid_t stranger = Orphan("OTHER=1");
  orphans_->Look();
  ASSERT_EQ(::kill(stranger, SIGKILL), 0);
  RunUntilGone(stranger);
  EXPECT_EQ(orphans_->count(), 0u);
}

}  // namespace
}  // namespace baton::runtime

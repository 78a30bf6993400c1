#include "ipc/crash_point.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "gtest/gtest.h"

namespace baton::ipc {
namespace {

// In a child each, as points read the environment once.
void Walk(const char* crash_at) {
  ::setenv("BATON_CRASH_AT", crash_at, 1);
  for (int i = 0; i < 3; ++i) {
    BATON_CRASH_POINT("worker.first");
    if (i == 0) continue;
    BATON_CRASH_POINT("worker.first_and_more");
  }
  std::_Exit(7);
}

TEST(CrashPointTest, DiesAtTheNamedPoint) {
  EXPECT_EXIT(Walk("worker.first"), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(Walk("worker.first_and_more"), testing::KilledBySignal(SIGKILL), "");
}

TEST(CrashPointTest, CountsPasses) {
  EXPECT_EXIT(Walk("worker.first:3"), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(Walk("worker.first:4"), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(Walk("worker.first_and_more:2"), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(Walk("worker.first_and_more:3"), testing::ExitedWithCode(7), "");
}

TEST(CrashPointTest, OthersPass) {
  EXPECT_EXIT(Walk("worker.second"), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(Walk("worker.firs"), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(Walk("worker.first:"), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(Walk("worker.first:x"), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(Walk(""), testing::ExitedWithCode(7), "");
}

TEST(CrashPointTest, OneOfSeveralNamesIsEnough) {
  EXPECT_EXIT(Walk("worker.second,worker.first:2"), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(Walk("worker.second,worker.third"), testing::ExitedWithCode(7), "");
}

TEST(CrashPointTest, AScopeNamesTheProcessesThatAreMeant) {
  const auto walk_as = [](uint64_t scope, const char* crash_at) {
    SetCrashScope(scope);
    Walk(crash_at);
  };
  EXPECT_EXIT(walk_as(2, "worker.first@2:3"), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(walk_as(1, "worker.first@2:3"), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(walk_as(2, "worker.first@2x"), testing::ExitedWithCode(7), "");
}

TEST(CrashPointTest, FailsTheNamedPassAlone) {
  const auto walk = [](const char* fail_at) {
    ::setenv("BATON_FAIL_AT", fail_at, 1);
    int failed = 0;
    for (int i = 1; i <= 3; ++i) {
      if (BATON_FAIL_POINT("worker.upload")) failed = failed * 10 + i;
    }
    std::_Exit(failed);
  };
  EXPECT_EXIT(walk("worker.upload"), testing::ExitedWithCode(1), "");
  EXPECT_EXIT(walk("worker.upload:2"), testing::ExitedWithCode(2), "");
  EXPECT_EXIT(walk("worker.upload:2,worker.upload:3"), testing::ExitedWithCode(2), "");
  EXPECT_EXIT(walk("worker.load"), testing::ExitedWithCode(0), "");
}

TEST(CrashPointTest, StopsUntilItIsContinued) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::setenv("BATON_STOP_AT", "worker.taken", 1);
    BATON_CRASH_POINT("worker.taken");
    std::_Exit(7);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  ASSERT_EQ(::kill(child, SIGCONT), 0);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

}  // namespace
}  // namespace baton::ipc

#ifndef BATON_CRASH_POINTS
#define BATON_CRASH_POINTS
#endif
#include "ipc/crash_point.h"

#include <signal.h>

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

}  // namespace
}  // namespace baton::ipc

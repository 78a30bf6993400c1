#include "runtime/worker/running_calls.h"

#include "gtest/gtest.h"

namespace baton::runtime {
namespace {

class RunningCallsTest : public testing::Test {
 protected:
  ipc::WorkerPage page_{};
  RunningCalls running_;
  const char calls_[3] = {};
};

TEST_F(RunningCallsTest, ShowsTheOldestAndTheEarliestDeadline) {
  running_.Begin(&calls_[0], 100, 0, page_);
  EXPECT_EQ(page_.busy_since_ns, 100);
  EXPECT_EQ(page_.busy_deadline_ns, 0);
  running_.Begin(&calls_[1], 200, 900, page_);
  running_.Begin(&calls_[2], 300, 800, page_);
  EXPECT_EQ(page_.busy_since_ns, 100);
  EXPECT_EQ(page_.busy_deadline_ns, 800);
  running_.End(&calls_[2], page_);
  EXPECT_EQ(page_.busy_deadline_ns, 900);
  running_.End(&calls_[0], page_);
  EXPECT_EQ(page_.busy_since_ns, 200);
  running_.End(&calls_[1], page_);
  EXPECT_EQ(page_.busy_since_ns, 0);
}

TEST_F(RunningCallsTest, OneThatWaitedIsTheYoungestAgain) {
  running_.Begin(&calls_[0], 100, 0, page_);
  running_.Begin(&calls_[1], 200, 0, page_);
  running_.End(&calls_[0], page_);
  EXPECT_EQ(page_.busy_since_ns, 200);
  running_.Begin(&calls_[0], 300, 0, page_);
  EXPECT_EQ(page_.busy_since_ns, 200);
  running_.End(&calls_[2], page_);  // which does not run
  running_.End(&calls_[1], page_);
  EXPECT_EQ(page_.busy_since_ns, 300);
}

}  // namespace
}  // namespace baton::runtime

// A server that stood still (a stopped process, a paused machine) judges nobody by that time.
#include <csignal>
#include <memory>
#include <vector>

#include "ipc/futex.h"
#include "tests/runtime/supervisor/supervisor_fixture.h"

namespace baton::testing {
namespace {

class SupervisorStandstillTest : public SupervisorFixture {
 protected:
  // Stops these until the clock has gone on by so much; then they go on, in this order.
  static void StandStill(const std::vector<pid_t>& pids, absl::Duration time) {
    for (const pid_t pid : pids) ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    for (const pid_t pid : pids) {
      ASSERT_TRUE(WaitFor([&] { return IsStopped(pid); }));
    }
    const int64_t until = ipc::MonotonicNs() + absl::ToInt64Nanoseconds(time);
    ASSERT_TRUE(WaitFor([&] { return ipc::MonotonicNs() >= until; }));
    for (const pid_t pid : pids) ASSERT_EQ(::kill(pid, SIGCONT), 0);
  }
};

TEST_F(SupervisorStandstillTest, AWorkerThatStoodStillBesideItIsNotWedged) {
  Start({"--heartbeat-timeout", "1"});
  const pid_t worker = Status().worker_pid;
  StandStill({worker, server_->pid()}, absl::Milliseconds(2500));
  ASSERT_TRUE(WaitFor([&] { return LogHas("stood still"); }));
  EXPECT_EQ(Client().Reload().outcome, "swapped");
  EXPECT_EQ(Status().restarts, 0);
  EXPECT_FALSE(LogHas("wedged"));
}

TEST_F(SupervisorStandstillTest, AFrontIsNotCutOffForIt) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  WriteModel({"behaviour: env", "variable: TOKEN", "weights_bytes: 4096"},
             "reload: {close_timeout: 900ms}\n");
  Start({}, {{"BATON_STOP_AT", "supervisor.CLOSING"}});
  FrontOptions options;
  options.import_device = true;
  auto front = server_->Attach(options);
  ASSERT_TRUE(front.ok()) << front.status();
  ASSERT_TRUE(WaitFor([&] { return (*front)->imported_generation() == 1; }));
  WriteSecret("newer");
  ASSERT_TRUE(WaitFor([&] { return IsStopped(server_->pid()); }));  // at the entry of CLOSING
  StandStill({server_->pid()}, absl::Milliseconds(2500));
  ASSERT_TRUE(WaitForReceipts(1));
  const ReceiptLine receipt = Receipts().at(0);
  EXPECT_EQ(receipt.outcome, "swapped");
  EXPECT_EQ(receipt.imports_closed, 1);
  EXPECT_EQ(receipt.imports_cut_off, 0);
  EXPECT_NE((*front)->state(), "GONE");
#endif
}

}  // namespace
}  // namespace baton::testing

// What a worker's model has started and nobody else would end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/runtime/supervisor/supervisor_fixture.h"

namespace baton::testing {
namespace {

class SupervisorOrphansTest : public SupervisorFixture {
 protected:
  void StartWith(const std::string& upload) {
    WriteModel({"behaviour: echo", "weights_bytes: 1048576", absl::StrCat("upload: ", upload)},
               "reload:\n  confirm_timeout: 500ms\n");
    Start();
  }
  // Children of the server, zombies included.
  std::vector<pid_t> Children() const {
    std::vector<pid_t> children;
    const std::string server = std::to_string(server_->pid());
    std::ifstream file("/proc/" + server + "/task/" + server + "/children");
    for (pid_t pid = 0; file >> pid;) children.push_back(pid);
    return children;
  }
  // What runs and is neither the server nor a worker nor the helper.
  std::vector<pid_t> Strangers() {
    const auto status = Status();
    std::vector<pid_t> strangers = MarkedProcesses(mark_);
    std::erase_if(strangers, [&](pid_t pid) {
      return pid == server_->pid() || pid == status.worker_pid || pid == status.helper_pid;
    });
    return strangers;
  }
};

// It maps the arena: without this, the reload would wait for it for good.
TEST_F(SupervisorOrphansTest, A20_ADescendantInASessionOfItsOwnGoesWithItsWorker) {
  StartWith("leave");
  ASSERT_EQ(Strangers().size(), 1u);
  const pid_t first = Strangers()[0];
  const auto reloaded = Client().Reload();
  EXPECT_EQ(reloaded.outcome, "swapped") << reloaded.status;
  EXPECT_EQ(reloaded.verdict, "freed");
  EXPECT_TRUE(WaitFor([&] { return ::kill(first, 0) != 0; })) << "it is alive, or a zombie";
  EXPECT_EQ(Strangers().size(), 1u) << "the new worker's";
  ASSERT_EQ(::kill(Status().worker_pid, SIGKILL), 0);
  EXPECT_TRUE(WaitForGeneration(3));
  EXPECT_TRUE(WaitFor([&] { return Children().size() == 2; })) << "worker and helper";
  EXPECT_TRUE(server_->Stop().ok());
  EXPECT_TRUE(MarkedProcesses(mark_).empty());
}

// Nothing of the server is left to kill it, and it holds a generation's memory: the next server's
// first thing is to end it.
TEST_F(SupervisorOrphansTest, A21_A30_TheNextServerEndsWhatAKilledOneHasLeft) {
  StartWith("leave");
  ASSERT_EQ(Strangers().size(), 1u);
  const pid_t left = Strangers()[0];
  ASSERT_TRUE(server_->process().Kill(SIGKILL).ok());
  ASSERT_TRUE(server_->process().Reap(absl::Minutes(1)).ok());
  EXPECT_EQ(ProcessState(left), 'S');
  server_.reset();
  Start();
  const char state = ProcessState(left);  // whoever inherits it may not have reaped it yet
  EXPECT_TRUE(state == '\0' || state == 'Z') << "two generations' memory at once: " << state;
  EXPECT_EQ(Status().generation, 1u);
}

// A daemon that a living worker has started is left alone, and goes with it.
TEST_F(SupervisorOrphansTest, ADaemonLivesAsLongAsItsWorker) {
  StartWith("daemon");
  ASSERT_EQ(Strangers().size(), 1u);
  const pid_t daemon = Strangers()[0];
  // The server is its parent by now, and has had time to look.
  const auto is_child = [&] {
    const auto children = Children();
    return std::find(children.begin(), children.end(), daemon) != children.end();
  };
  ASSERT_TRUE(WaitFor(is_child));
  ASSERT_EQ(Client().Reload().outcome, "swapped");
  EXPECT_TRUE(LogHas(absl::StrCat("killing process ", daemon, ", which generation 1")));
  EXPECT_TRUE(WaitFor([&] { return ::kill(daemon, 0) != 0; }));
  EXPECT_EQ(Strangers().size(), 1u);
}

// One that ends by itself is no zombie for long, though no worker has ended.
TEST_F(SupervisorOrphansTest, A30_AnOrphanThatEndsIsReaped) {
  StartWith("daemon");
  ASSERT_EQ(Strangers().size(), 1u);
  const pid_t daemon = Strangers()[0];
  ASSERT_EQ(::kill(daemon, SIGKILL), 0);
  EXPECT_TRUE(WaitFor([&] { return ::kill(daemon, 0) != 0; }));
  EXPECT_EQ(Status().generation, 1u);
}

}  // namespace
}  // namespace baton::testing

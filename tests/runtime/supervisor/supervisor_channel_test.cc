// Channels whose segments are not what they should be, with real servers.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <utility>

#include "ipc/channel_layout.h"
#include "ipc/unique_fd.h"
#include "tests/runtime/supervisor/supervisor_fixture.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

class SupervisorChannelTest : public SupervisorFixture {
 protected:
  absl::StatusOr<Channel> OpenChannel() {
    auto front = server_->Attach();
    if (!front.ok()) return front.status();
    front_ = *std::move(front);
    return front_->OpenChannel({.request_arena_bytes = 65536, .response_arena_bytes = 65536});
  }

  std::unique_ptr<Front> front_;
};

constexpr uint64_t kBroken = 0x6e656b6f7262;

// Overwrites the header of every submission segment that the server holds, or puts it right again.
int BreakSubmissions(pid_t server, bool mend = false) {
  int broken = 0;
  const std::string fds = "/proc/" + std::to_string(server) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(fds)) {
    struct stat info {};
    if (::stat(entry.path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const ipc::UniqueFd fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
    uint64_t magic = 0;
    if (!fd || ::pread(fd.get(), &magic, sizeof(magic), 0) != sizeof(magic)) continue;
    if (magic != (mend ? kBroken : ipc::kSubmissionMagic)) continue;
    magic = mend ? ipc::kSubmissionMagic : kBroken;
    broken += ::pwrite(fd.get(), &magic, sizeof(magic), 0) == sizeof(magic);
  }
  return broken;
}

TEST_F(SupervisorChannelTest, ASuccessorThatRefusesAChannelIsNotTakenAndNoFrontIsTouched) {
  Start();
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  const pid_t worker = Status().worker_pid;
  ASSERT_EQ(BreakSubmissions(server_->pid()), 1);
  const auto reloaded = Client().Reload();
  EXPECT_EQ(reloaded.outcome, "kept-old");
  EXPECT_THAT(reloaded.reason, HasSubstr("refused channel 1"));
  const auto status = Status();
  EXPECT_EQ(status.worker_pid, worker);
  EXPECT_EQ(status.fronts, 1);
  EXPECT_EQ(status.channels, 1);
  // The next one that refuses it is not what is wrong: the channel goes, its front is told.
  const auto second = Client().Reload();
  EXPECT_EQ(second.outcome, "swapped") << second.reason;
  EXPECT_EQ(Status().channels, 0);
  EXPECT_EQ(Status().fronts, 0);
  EXPECT_TRUE(WaitFor([&] {
    auto request = channel->NewRequest({{"data", DType::kUInt8, {1}}});
    return !request.ok() || !channel->Call(*std::move(request)).ok();
  }));
}

TEST_F(SupervisorChannelTest, ARefusalThatTheNextSuccessorDoesNotRepeatIsForgotten) {
  Start();
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(BreakSubmissions(server_->pid()), 1);
    EXPECT_EQ(Client().Reload().outcome, "kept-old") << i;
    ASSERT_EQ(BreakSubmissions(server_->pid(), /*mend=*/true), 1);
    EXPECT_EQ(Client().Reload().outcome, "swapped") << i;
  }
  EXPECT_EQ(Status().channels, 1);
}

TEST_F(SupervisorChannelTest, WithNoWorkerToKeepABrokenChannelDoesNotKeepTheServerDown) {
  Start();
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  const pid_t worker = Status().worker_pid;
  ASSERT_EQ(BreakSubmissions(server_->pid()), 1);
  // With no worker to keep, the channel does not keep the server down.
  ASSERT_EQ(::kill(worker, SIGKILL), 0);
  ASSERT_TRUE(WaitFor([&] {
    const auto now = Status();
    return now.state == "SERVING" && now.worker_pid != worker && now.channels == 0;
  }));
}

}  // namespace
}  // namespace baton::testing

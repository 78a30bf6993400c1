#include "runtime/supervisor/secrets_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/time/clock.h"

namespace baton::runtime {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMs = 1'000'000;

// The watcher's clock is the test's: a second passes when the test says so.
// Only the kernel's inotify queue is real, and it is filled before the call
// that caused an event returns.
class WatcherTest : public testing::TestWithParam<bool> {
 protected:
  WatcherTest() {
    std::string name = (fs::temp_directory_path() / "baton-watch-XXXXXX").native();
    top_ = ::mkdtemp(name.data());
    dir_ = top_ / "secrets";
  }
  ~WatcherTest() override { fs::remove_all(top_); }

  void Start() {
    SecretsWatcherOptions options;
    options.use_inotify = GetParam();
    watcher_ = std::make_unique<SecretsWatcher>(dir_.native(), now_, options);
  }
  void Write(const std::string& path, const std::string& content) {
    fs::create_directories((dir_ / path).parent_path());
    std::ofstream(dir_ / path, std::ios::binary) << content;
  }
  // Changes reported while `duration_ms` pass, in steps of 5 ms as a loop would.
  int Pass(int duration_ms) {
    int changes = 0;
    for (int ms = 0; ms < duration_ms; ms += 5) {
      now_ += 5 * kMs;
      pollfd ready{watcher_->fd(), POLLIN, 0};
      const bool readable = ready.fd >= 0 && ::poll(&ready, 1, 0) == 1;
      if (readable || now_ >= watcher_->deadline_ns()) changes += watcher_->Check(now_) ? 1 : 0;
    }
    return changes;
  }
  std::string Value(const std::string& key) {
    const auto it = watcher_->current().values.find(key);
    if (it == watcher_->current().values.end()) return "(none)";
    return {it->second.begin(), it->second.end()};
  }

  fs::path top_, dir_;
  int64_t now_ = 1'000'000 * kMs;
  std::unique_ptr<SecretsWatcher> watcher_;
};

INSTANTIATE_TEST_SUITE_P(With, WatcherTest, testing::Values(true, false),
                         [](const auto& info) { return info.param ? "Inotify" : "PollOnly"; });

TEST_P(WatcherTest, A13_ModifyAddAndRemoveAreOneChangeEachWithinASecond) {
  Write("app/app", "KEY=1\n");
  Start();
  EXPECT_EQ(Value("KEY"), "1");
  EXPECT_EQ(Pass(1000), 0);
  Write("app/app", "KEY=2\n");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("KEY"), "2");
  Write("other/other", "MORE=x\n");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("MORE"), "x");
  Write("DIRECT", "y");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("DIRECT"), "y");
  fs::remove_all(dir_ / "app");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("KEY"), "(none)");
  EXPECT_EQ(Pass(3000), 0);
}

TEST_P(WatcherTest, A13_ATouchIsNoChange) {
  Write("app/app", "KEY=1\n");
  Write("DIRECT", "1");
  Start();
  Write("app/app", "KEY=1\n");
  fs::last_write_time(dir_ / "DIRECT", fs::file_time_type::clock::now());
  ::chmod((dir_ / "DIRECT").c_str(), 0640);
  Write("app/app", "# only a comment\nKEY=1\n");
  EXPECT_EQ(Pass(2000), 0);
}

TEST_P(WatcherTest, A13_ABurstIsOneChange) {
  Write("app/app", "KEY=0\n");
  Start();
  int changes = 0;
  for (int i = 1; i <= 8; ++i) {  // 40 ms, as an editor that writes twice and renames
    Write("app/app", "KEY=" + std::to_string(i) + "\n");
    changes += Pass(5);
  }
  changes += Pass(995);
  EXPECT_EQ(changes, 1);
  EXPECT_EQ(Value("KEY"), "8");
}

TEST_P(WatcherTest, WritingThatNeverEndsIsTakenAtTheLimit) {
  Write("app/app", "KEY=0\n");
  Start();
  int changes = 0;
  for (int i = 1; i <= 60 && changes == 0; ++i) {
    Write("app/app", "KEY=" + std::to_string(i) + "\n");
    changes += Pass(20);
  }
  EXPECT_EQ(changes, 1);
}

TEST_P(WatcherTest, A11_ADataSwapIsOneChange) {
  Write("..1/token", "old");
  Write("..2/token", "new");
  fs::create_directory_symlink("..1", dir_ / "..data");
  fs::create_symlink("..data/token", dir_ / "token");
  Start();
  EXPECT_EQ(Value("token"), "old");
  fs::create_directory_symlink("..2", dir_ / "..data_tmp");
  fs::rename(dir_ / "..data_tmp", dir_ / "..data");
  fs::remove_all(dir_ / "..1");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("token"), "new");
}

TEST_P(WatcherTest, A14_ADirectoryThatAppearsLater) {
  dir_ = top_ / "not" / "yet" / "there";
  Start();
  EXPECT_EQ(Pass(1000), 0);
  Write("app/app", "KEY=1\n");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("KEY"), "1");
  Write("app/app", "KEY=2\n");
  EXPECT_EQ(Pass(995), 1);
  fs::remove_all(top_ / "not");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("KEY"), "(none)");
  Write("app/app", "KEY=3\n");
  EXPECT_EQ(Pass(995), 1);
}

TEST_P(WatcherTest, ADirectoryThatIsReplacedByAnother) {
  Write("KEY", "1");
  Start();
  fs::rename(dir_, top_ / "before");
  Write("KEY", "2");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("KEY"), "2");
  Write("KEY", "3");
  EXPECT_EQ(Pass(995), 1);
  EXPECT_EQ(Value("KEY"), "3");
}

// With inotify a change is seen long before the poll would see it.
TEST(SecretsWatcher, InotifyIsFasterThanThePoll) {
  std::string name = (fs::temp_directory_path() / "baton-watch-XXXXXX").native();
  const fs::path dir = ::mkdtemp(name.data());
  SecretsWatcherOptions options;
  options.poll_interval = absl::Hours(1);
  SecretsWatcher watcher(dir.native(), 1, options);
  fs::create_directory(dir / "app");
  EXPECT_FALSE(watcher.Check(2));
  EXPECT_LT(watcher.deadline_ns(), 200 * kMs);
  std::ofstream(dir / "app" / "app") << "KEY=1\n";
  EXPECT_TRUE(watcher.Check(watcher.deadline_ns()));
  std::ofstream(dir / "app" / "app") << "KEY=2\n";  // a folder that came later is watched too
  pollfd ready{watcher.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 0), 1);
  fs::remove_all(dir);
}

}  // namespace
}  // namespace baton::runtime

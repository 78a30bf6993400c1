// Where servers are found, and that one name is one server.
//
// The other servers here are this program itself, run again: see main().
#include "ipc/run_directory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/control_socket.h"
#include "ipc/process.h"

namespace baton::ipc {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kSoon = absl::Seconds(60);

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class RunDirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/baton-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    runtime_ = name;
    ::setenv("XDG_RUNTIME_DIR", name, 1);
    path_ = runtime_ + "/baton";
  }
  void TearDown() override {
    ::unsetenv("XDG_RUNTIME_DIR");
    std::filesystem::remove_all(runtime_);
  }

  // A server in a process of its own, listening when this returns.
  static ChildProcess Serve(const std::string& name) {
    auto pair = ControlSocket::MakePair();
    if (!pair.ok()) std::abort();
    auto child = SpawnProcess({.executable = "/proc/self/exe",
                               .args = {"--serve", name},
                               .fds = {{pair->second.get(), 3}}});
    if (!child.ok()) std::abort();
    pair->second.reset();
    EXPECT_TRUE(pair->first.Receive(kSoon).ok());
    return *std::move(child);
  }

  std::string runtime_;
  std::string path_;
};

TEST_F(RunDirectoryTest, IsMadePrivateWhereTheUserSays) {
  const mode_t before = ::umask(0);
  auto run = RunDirectory::Open();
  ::umask(before);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->path(), path_);
  struct stat info;
  ASSERT_EQ(::lstat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  EXPECT_TRUE(RunDirectory::Open().ok());  // and again
}

TEST_F(RunDirectoryTest, ARelativeOrMissingVariableMeansTmp) {
  for (const char* value : {"", "relative/dir"}) {
    ::setenv("XDG_RUNTIME_DIR", value, 1);
    auto run = RunDirectory::Open();
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_EQ(run->path(), absl::StrCat("/tmp/baton-", ::geteuid()));
  }
}

TEST_F(RunDirectoryTest, RefusesWhatOthersCouldUse) {
  // Open to others.
  ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0755), 0);
  absl::Status status = RunDirectory::Open().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("755"));
  EXPECT_THAT(Message(status), HasSubstr("chmod 700"));
  // A symbolic link, even to a good place.
  ASSERT_EQ(::chmod(path_.c_str(), 0700), 0);
  const std::string link = runtime_ + "/link";
  ASSERT_EQ(::symlink(path_.c_str(), link.c_str()), 0);
  status = RunDirectory::OpenAt(link).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("symbolic link"));
  // A file.
  const std::string file = runtime_ + "/file";
  std::ofstream(file) << "x";
  EXPECT_TRUE(absl::IsFailedPrecondition(RunDirectory::OpenAt(file).status()));
  // Nowhere.
  status = RunDirectory::OpenAt(runtime_ + "/no/such").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("XDG_RUNTIME_DIR"));
}

TEST_F(RunDirectoryTest, RefusesAnotherUsersDirectory) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
  ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
  ASSERT_EQ(::chown(path_.c_str(), 65534, 65534), 0);
  const absl::Status status = RunDirectory::Open().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("belongs to user 65534"));
}

TEST_F(RunDirectoryTest, RefusesBadNames) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  for (const std::string& name :
       {std::string(), std::string("a/b"), std::string(".."), std::string(".hidden"),
        std::string("a b"), std::string("ä"), std::string("a\0b", 3), std::string(65, 'x')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(run->Claim(name).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(run->FindServer(name).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(run->FolderOf(name).status())) << name;
  }
  EXPECT_TRUE(run->Claim("A-z_0.9").ok());
}

TEST_F(RunDirectoryTest, SaysWhenTheSocketsPathWouldBeTooLong) {
  const std::string deep = runtime_ + "/" + std::string(60, 'd');
  auto run = RunDirectory::OpenAt(deep);
  ASSERT_TRUE(run.ok()) << run.status();
  const absl::Status status = run->Claim(std::string(64, 'n')).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(Message(status), HasSubstr("shorter"));
  // The longest that fits can be listened on.
  const std::string longest(107 - deep.size() - sizeof("//control.sock") + 1, 'n');
  auto folder = run->Claim(longest);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(folder->control_socket().size(), 107u);
  EXPECT_TRUE(ControlListener::Listen(folder->control_socket()).ok());
}

TEST_F(RunDirectoryTest, ANameIsServedOnce) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  ChildProcess server = Serve("digits");
  const absl::Status status = run->Claim("digits").status();
  EXPECT_TRUE(absl::IsAlreadyExists(status));
  EXPECT_THAT(Message(status), HasSubstr(absl::StrCat("process ", server.pid(), ".")));
  // In the same process, too.
  auto mine = run->Claim("other");
  ASSERT_TRUE(mine.ok()) << mine.status();
  EXPECT_TRUE(absl::IsAlreadyExists(run->Claim("other").status()));
}

TEST_F(RunDirectoryTest, FindsThoseThatRun) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_TRUE(run->ListServers()->empty());
  absl::Status status = run->FindServer("digits").status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(Message(status), HasSubstr("none does in"));

  ChildProcess b = Serve("b");
  ChildProcess a = Serve("a");
  auto servers = run->ListServers();
  ASSERT_TRUE(servers.ok()) << servers.status();
  ASSERT_EQ(servers->size(), 2u);
  EXPECT_EQ(servers->at(0).name, "a");
  EXPECT_EQ(servers->at(0).pid, a.pid());
  auto found = run->FindServer("b");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->pid, b.pid());
  EXPECT_TRUE(ControlSocket::Connect(found->control_socket, kSoon).ok());
  status = run->FindServer("c").status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(Message(status), HasSubstr("a, b"));
}

// A30: what a killed server leaves behind is neither found nor in the way.
TEST_F(RunDirectoryTest, A30_AKilledServersNameCanBeServedAgain) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  std::string socket;
  {
    ChildProcess server = Serve("digits");
    socket = run->FindServer("digits")->control_socket;
    ASSERT_TRUE(server.Kill(SIGKILL).ok());
    ASSERT_TRUE(server.Reap(kSoon).ok());
  }
  EXPECT_TRUE(std::filesystem::exists(socket));  // stale
  EXPECT_TRUE(absl::IsUnavailable(ControlSocket::Connect(socket, kSoon).status()));
  EXPECT_TRUE(run->ListServers()->empty());
  ChildProcess next = Serve("digits");
  EXPECT_EQ(run->FindServer("digits")->pid, next.pid());
  EXPECT_TRUE(ControlSocket::Connect(socket, kSoon).ok());
}

TEST_F(RunDirectoryTest, LeavingKeepsReceiptsAndNothingElseThatMisleads) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  std::string folder;
  {
    auto claimed = run->Claim("digits");
    ASSERT_TRUE(claimed.ok()) << claimed.status();
    ServerFolder moved = *std::move(claimed);
    folder = moved.path();
    std::ofstream(moved.receipts()) << "{}\n";
    ASSERT_TRUE(ControlListener::Listen(moved.control_socket()).ok());
    EXPECT_EQ(run->ListServers()->size(), 1u);
  }
  EXPECT_TRUE(run->ListServers()->empty());
  EXPECT_FALSE(std::filesystem::exists(folder + "/control.sock"));
  EXPECT_TRUE(std::filesystem::exists(*run->FolderOf("digits") + "/receipts.jsonl"));
  EXPECT_TRUE(run->Claim("digits").ok());
}

// Looking must not make a start fail: the lock is asked about, not taken.
TEST_F(RunDirectoryTest, LookingLeavesTheLockFree) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  { ASSERT_TRUE(run->Claim("digits").ok()); }
  ChildProcess looker = *SpawnProcess({.executable = "/proc/self/exe", .args = {"--look"}});
  for (int i = 0; i < 2000; ++i) {
    auto folder = run->Claim("digits");
    ASSERT_TRUE(folder.ok()) << folder.status();
  }
  EXPECT_FALSE(looker.TryReap()->has_value());  // it looked all the time
}

// A process that holds what a worker holds, and lives on when its server does not.
ChildProcess HoldLife(const ServerFolder& folder) {
  auto child = SpawnProcess(
      {.executable = "/proc/self/exe", .args = {"--hold"}, .fds = {{folder.life_fd(), 5}}});
  if (!child.ok()) std::abort();
  return *std::move(child);
}

TEST_F(RunDirectoryTest, A21_AWorkerOfTheServerBeforeIsAwaited) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  auto first = run->Claim("digits");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(first->AwaitPredecessor(kSoon, kSoon).ok());  // there was none
  ChildProcess worker = HoldLife(*first);
  *first = ServerFolder();  // as its death does
  auto second = run->Claim("digits");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->life_fd(), -1);
  const absl::Status alive = second->AwaitPredecessor(kSoon, -kSoon);  // no patience at all
  EXPECT_EQ(alive.code(), absl::StatusCode::kUnavailable) << alive;
  ASSERT_TRUE(worker.Kill(SIGKILL).ok());
  EXPECT_TRUE(second->AwaitPredecessor(kSoon, kSoon).ok());
  EXPECT_GE(second->life_fd(), 0);
}

TEST_F(RunDirectoryTest, A30_WhatIsLeftOfTheServerBeforeIsKilled) {
  auto run = RunDirectory::Open();
  ASSERT_TRUE(run.ok()) << run.status();
  auto first = run->Claim("digits");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(first->AwaitPredecessor(kSoon, kSoon).ok());
  ChildProcess worker = HoldLife(*first);
  *first = ServerFolder();
  auto second = run->Claim("digits");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->AwaitPredecessor(absl::ZeroDuration(), kSoon).ok());
  const auto ended = worker.Reap(kSoon);
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->kind, ExitStatus::Kind::kSignalled);
  EXPECT_EQ(ended->value, SIGKILL);
}

int HoldRole() {
  ::alarm(300);
  while (true) ::pause();
}

int ServeRole(const std::string& name) {
  ::alarm(300);
  ControlSocket parent{UniqueFd(3)};
  auto run = RunDirectory::Open();
  if (!run.ok()) return 1;
  auto folder = run->Claim(name);
  if (!folder.ok()) return 2;
  auto listener = ControlListener::Listen(folder->control_socket());
  if (!listener.ok()) return 3;
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().setDone();
  if (!parent.Send(message).ok()) return 4;
  while (true) ::pause();
}

int LookRole() {
  ::alarm(300);
  auto run = RunDirectory::Open();
  while (run.ok() && run->ListServers().ok()) {
  }
  return 1;
}

}  // namespace
}  // namespace baton::ipc

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first == "--serve") return baton::ipc::ServeRole(argv[2]);
  if (first == "--hold") return baton::ipc::HoldRole();
  if (first == "--look") return baton::ipc::LookRole();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

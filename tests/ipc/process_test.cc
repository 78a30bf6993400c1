// Processes: spawning, watching and reaping them.
//
// The children are this program itself, run again with a role: see main().
#include "ipc/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/eventfd.h"
#include "ipc/poll_fd.h"
#include "poll.h"

namespace baton::ipc {
namespace {

constexpr absl::Duration kSoon = absl::Seconds(60);

std::string Self() { return "/proc/self/exe"; }

SpawnOptions Role(std::string role, std::vector<std::string> args = {}) {
  SpawnOptions options{.executable = Self()};
  options.args = {absl::StrCat("--role=", role)};
  options.args.insert(options.args.end(), args.begin(), args.end());
  return options;
}

struct Pipe {
  Pipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) std::abort();
    read.reset(fds[0]);
    write.reset(fds[1]);
  }
  std::string ReadAll() {
    write.reset();
    std::string all;
    char buffer[4096];
    ssize_t got;
    while ((got = ::read(read.get(), buffer, sizeof(buffer))) > 0) all.append(buffer, got);
    return all;
  }
  UniqueFd read, write;
};

TEST(SpawnProcess, ReturnsTheExitCode) {
  auto child = SpawnProcess(Role("exit", {"7"}));
  ASSERT_TRUE(child.ok()) << child.status();
  auto status = child->Reap(kSoon);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(*status, (ExitStatus{ExitStatus::Kind::kExited, 7}));
  EXPECT_FALSE(status->clean());
  EXPECT_EQ(ToString(*status), "exited with 7");
  EXPECT_FALSE(child->running());
  // The answer stays, and nothing can be hit by a signal any more.
  EXPECT_EQ(**child->TryReap(), *status);
  EXPECT_TRUE(child->Kill(SIGKILL).ok());
}

TEST(SpawnProcess, SaysWhenItCannot) {
  auto child = SpawnProcess({.executable = "/nonexistent/program"});
  EXPECT_TRUE(absl::IsNotFound(child.status())) << child.status();
  EXPECT_THAT(std::string(child.status().message()), testing::HasSubstr("/nonexistent/program"));
  EXPECT_TRUE(absl::IsPermissionDenied(SpawnProcess({.executable = "/etc/passwd"}).status()));
  SpawnOptions closed = Role("exit", {"0"});
  closed.fds = {{123456, 3}};
  EXPECT_FALSE(SpawnProcess(closed).ok());
}

TEST(SpawnProcess, KillIsSeenAsASignal) {
  auto child = SpawnProcess(Role("wait"));
  ASSERT_TRUE(child.ok()) << child.status();
  auto running = child->TryReap();
  ASSERT_TRUE(running.ok());
  EXPECT_FALSE(running->has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(child->Reap(absl::ZeroDuration()).status()));
  ASSERT_TRUE(child->Kill(SIGKILL).ok());
  EXPECT_EQ(*child->Reap(kSoon), (ExitStatus{ExitStatus::Kind::kSignalled, SIGKILL}));
}

// R12: of this process's descriptors a child gets exactly those it was handed,
// also when one was made without O_CLOEXEC and when the numbers cross over.
TEST(SpawnProcess, R12_PassesOnlyTheDescriptorsItWasHanded) {
  Pipe out;
  Pipe a;
  Pipe b;
  UniqueFd leaky(::open("/dev/null", O_RDONLY));
  const UniqueFd high(::fcntl(leaky.get(), F_DUPFD, 200));
  ASSERT_EQ(::write(a.write.get(), "a", 1), 1);
  ASSERT_EQ(::write(b.write.get(), "b", 1), 1);
  SpawnOptions options = Role("list-fds");
  // a's reader gets the number that b's has here, and the other way round.
  options.fds = {{out.write.get(), 1}, {a.read.get(), b.read.get()}, {b.read.get(), a.read.get()}};
  options.args.push_back(absl::StrCat(a.read.get()));
  options.args.push_back(absl::StrCat(b.read.get()));
  auto child = SpawnProcess(options);
  ASSERT_TRUE(child.ok()) << child.status();
  const std::set<int> expected = {0, 1, 2, a.read.get(), b.read.get()};
  std::string text = "ba ";
  for (int fd : expected) absl::StrAppend(&text, fd, " ");
  EXPECT_EQ(out.ReadAll(), text);
  EXPECT_TRUE(child->Reap(kSoon)->clean());
}

TEST(SpawnProcess, ChildHasDefaultSignalsAndNoTerminalInput) {
  ::signal(SIGTERM, SIG_IGN);
  sigset_t blocked, before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  auto child = SpawnProcess(Role("wait"));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGTERM, SIG_DFL);
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(::getpgid(child->pid()), child->pid());
  char target[64] = {};
  ASSERT_GT(::readlink(absl::StrCat("/proc/", child->pid(), "/fd/0").c_str(), target, 63), 0);
  EXPECT_STREQ(target, "/dev/null");
  ASSERT_TRUE(child->Kill(SIGTERM).ok());
  EXPECT_EQ(*child->Reap(kSoon), (ExitStatus{ExitStatus::Kind::kSignalled, SIGTERM}));
}

TEST(SpawnProcess, GivesTheEnvironmentAskedFor) {
  Pipe out;
  SpawnOptions options = Role("getenv", {"BATON_TEST_VALUE"});
  options.env = {{"BATON_TEST_VALUE=a==b c"}};
  // A sanitizer's options have to reach it, too.
  for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LD_LIBRARY_PATH"}) {
    if (const char* value = std::getenv(name))
      options.env->push_back(absl::StrCat(name, "=", value));
  }
  options.fds = {{out.write.get(), 1}};
  auto child = SpawnProcess(options);
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(out.ReadAll(), "a==b c");
}

TEST(SpawnProcess, WorksFromManyThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int round = 0; round < 5; ++round) {
        auto child = SpawnProcess(Role("exit", {absl::StrCat(i)}));
        ASSERT_TRUE(child.ok()) << child.status();
        EXPECT_EQ(child->Reap(kSoon)->value, i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ChildProcess, DestructorKillsAndReaps) {
  ProcessIdentity identity;
  {
    auto child = SpawnProcess(Role("wait"));
    ASSERT_TRUE(child.ok()) << child.status();
    identity = child->identity();
    EXPECT_NE(identity.start_time, 0u);
    ChildProcess moved = *std::move(child);
    EXPECT_TRUE(moved.running());
  }
  EXPECT_TRUE(absl::IsNotFound(ProcessWatch::Open(identity).status()));
  EXPECT_EQ(::waitpid(identity.pid, nullptr, WNOHANG), -1);  // no zombie either
}

TEST(ChildProcess, A27_WhatItStartedGoesWithIt) {
  for (const bool by_destructor : {false, true}) {
    Pipe pipe;
    SpawnOptions options{.executable = "/bin/sh"};
    options.args = {"-c", by_destructor ? "sleep 1000 & echo up >&3; wait"
                                        : "sleep 1000 & echo up >&3; exit 0"};
    options.fds = {{pipe.write.get(), 3}};
    options.kill_group_at_end = true;
    auto child = SpawnProcess(options);
    ASSERT_TRUE(child.ok()) << child.status();
    if (by_destructor) {
      char up;
      ASSERT_EQ(::read(pipe.read.get(), &up, 1), 1);
      *child = ChildProcess();
    } else {
      auto status = child->Reap(kSoon);
      ASSERT_TRUE(status.ok()) << status.status();
      EXPECT_TRUE(status->clean());
    }
    pipe.ReadAll();  // ends when the last one that holds the pipe does
  }
}

TEST(ChildProcess, SurvivesAThiefOfExitStatuses) {
  ::signal(SIGCHLD, SIG_IGN);  // the kernel reaps, and waitid finds nothing
  auto child = SpawnProcess(Role("wait"));
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_FALSE((*child->TryReap()).has_value());
  ASSERT_TRUE(child->Kill(SIGKILL).ok());
  EXPECT_EQ(child->Reap(kSoon)->kind, ExitStatus::Kind::kUnknown);
  ::signal(SIGCHLD, SIG_DFL);
}

TEST(ProcessIdentity, ReadsPastAHostileName) {
  auto child = SpawnProcess(Role("wait", {"a) R 1 (b"}));
  ASSERT_TRUE(child.ok()) << child.status();
  // The child names itself and then says so by stopping.
  siginfo_t info = {};
  ASSERT_EQ(::waitid(P_PIDFD, child->pidfd(), &info, WSTOPPED), 0);
  std::ifstream comm(absl::StrCat("/proc/", child->pid(), "/comm"));
  std::string name;
  std::getline(comm, name);
  ASSERT_EQ(name, "a) R 1 (b");
  auto identity = ProcessIdentity::Of(child->pid());
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(*identity, child->identity());
}

TEST(ProcessIdentity, NobodyIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(ProcessIdentity::Of(0x7fff0000).status()));
  EXPECT_TRUE(ProcessIdentity::Of(::getpid()).ok());
}

// R5: a pid that means somebody else now is not taken for the process meant.
TEST(ProcessWatch, R5_TellsAReusedPidApart) {
  auto self = ProcessIdentity::Of(::getpid());
  ASSERT_TRUE(self.ok());
  ProcessIdentity former = *self;
  former.start_time -= 1;
  EXPECT_TRUE(absl::IsNotFound(ProcessWatch::Open(former).status()));
  EXPECT_TRUE(ProcessWatch::Open(*self).ok());
}

TEST(ProcessWatch, SeesAProcessThatIsNotItsChildEnd) {
  // A grandchild: its parent says its pid and exits.
  Pipe out;
  SpawnOptions options = Role("orphan");
  options.fds = {{out.write.get(), 1}};
  auto parent = SpawnProcess(options);
  ASSERT_TRUE(parent.ok()) << parent.status();
  int pid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(out.ReadAll(), &pid));
  ASSERT_TRUE(parent->Reap(kSoon)->clean());
  auto identity = ProcessIdentity::Of(pid);
  ASSERT_TRUE(identity.ok()) << identity.status();
  auto watch = ProcessWatch::Open(*identity);
  ASSERT_TRUE(watch.ok()) << watch.status();
  EXPECT_TRUE(watch->alive());
  ASSERT_TRUE(watch->Kill(SIGKILL).ok());
  EXPECT_TRUE(PollFd(watch->pidfd(), POLLIN, kSoon));
  EXPECT_FALSE(watch->alive());
  EXPECT_TRUE(watch->Kill(SIGKILL).ok());  // hits nobody
}

// A30: the kernel takes the child along when its parent is SIGKILLed.
TEST(DieWithParent, A30_ChildGoesWithItsParent) {
  Pipe out;
  SpawnOptions options = Role("parent-of-bound");
  options.fds = {{out.write.get(), 1}};
  auto parent = SpawnProcess(options);
  ASSERT_TRUE(parent.ok()) << parent.status();
  out.write.reset();
  char text[32] = {};
  ASSERT_GT(::read(out.read.get(), text, sizeof(text) - 1), 0);
  int pid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(std::string(text), &pid));
  auto bound = ProcessWatch::Open(*ProcessIdentity::Of(pid));
  ASSERT_TRUE(bound.ok()) << bound.status();
  ASSERT_TRUE(bound->alive());
  ASSERT_TRUE(parent->Kill(SIGKILL).ok());
  EXPECT_TRUE(PollFd(bound->pidfd(), POLLIN, kSoon));
  EXPECT_FALSE(bound->alive());
}

TEST(DieWithParent, RefusesAnotherParent) {
  auto child = SpawnProcess(Role("bind-to", {"1073741824"}));
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(child->Reap(kSoon)->value, 9);
}

TEST(EventFd, SignalsAddUpToOneWakeUp) {
  auto fd = CreateEventFd();
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_FALSE(PollFd(fd->get(), POLLIN, absl::ZeroDuration()));
  EXPECT_FALSE(DrainEventFd(fd->get()));
  SignalEventFd(fd->get());
  SignalEventFd(fd->get());
  EXPECT_TRUE(PollFd(fd->get(), POLLIN, absl::ZeroDuration()));
  EXPECT_TRUE(DrainEventFd(fd->get()));
  EXPECT_FALSE(PollFd(fd->get(), POLLIN, absl::ZeroDuration()));
}

TEST(EventFd, AFullCounterNeitherBlocksNorLosesTheWakeUp) {
  auto fd = CreateEventFd();
  ASSERT_TRUE(fd.ok()) << fd.status();
  const uint64_t full = UINT64_MAX - 1;
  ASSERT_EQ(::write(fd->get(), &full, sizeof(full)), 8);
  SignalEventFd(fd->get());
  EXPECT_TRUE(DrainEventFd(fd->get()));
}

[[noreturn]] void WaitForever() {
  while (true) ::pause();
}

int ListFds(int first, int second) {
  char text[2];
  if (::read(first, text, 1) != 1 || ::read(second, text + 1, 1) != 1) return 1;
  std::string line = absl::StrCat(std::string(text, 2), " ");
  std::set<int> fds;
  DIR* directory = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(directory)) {
    int fd;
    if (absl::SimpleAtoi(entry->d_name, &fd) && fd != ::dirfd(directory)) fds.insert(fd);
  }
  ::closedir(directory);
  for (int fd : fds) absl::StrAppend(&line, fd, " ");
  return ::write(1, line.data(), line.size()) == static_cast<ssize_t>(line.size()) ? 0 : 1;
}

// A debugger, strace or a leak checker that has not let go yet: the child is dead, and not ours to
// reap until it does.
TEST(ChildProcess, ReapWaitsForATracerToLetGo) {
  absl::StatusOr<ChildProcess> child = SpawnProcess({.executable = "/bin/sleep", .args = {"1000"}});
  ASSERT_TRUE(child.ok()) << child.status();
  int tracing[2];
  int let_go[2];
  ASSERT_EQ(::pipe(tracing), 0);
  ASSERT_EQ(::pipe(let_go), 0);
  const pid_t tracer = ::fork();
  if (tracer == 0) {
    ::close(let_go[1]);
    const char seized = ::ptrace(PTRACE_SEIZE, child->pid(), nullptr, nullptr) == 0 ? 'y' : 'n';
    char byte;
    if (::write(tracing[1], &seized, 1) != 1) ::_exit(1);
    static_cast<void>(!::read(let_go[0], &byte, 1));
    ::_exit(0);
  }
  char seized = 0;
  ASSERT_EQ(::read(tracing[0], &seized, 1), 1);
  if (seized != 'y') {
    ::kill(tracer, SIGKILL);
    ::waitpid(tracer, nullptr, 0);
    GTEST_SKIP() << "nobody may be traced here";
  }
  ASSERT_TRUE(child->Kill(SIGKILL).ok());
  ASSERT_TRUE(PollFd(child->pidfd(), POLLIN, absl::Minutes(1)));
  const absl::StatusOr<std::optional<ExitStatus>> early = child->TryReap();
  ASSERT_TRUE(early.ok()) << early.status();
  EXPECT_FALSE(early->has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(child->Reap(absl::ZeroDuration()).status()));
  std::thread release([&] { ::close(let_go[1]); });
  const absl::StatusOr<ExitStatus> reaped = child->Reap(absl::Minutes(1));
  release.join();
  ASSERT_TRUE(reaped.ok()) << reaped.status();
  EXPECT_EQ(reaped->kind, ExitStatus::Kind::kSignalled);
  ::waitpid(tracer, nullptr, 0);
  for (const int fd : {tracing[0], tracing[1], let_go[0]}) ::close(fd);
}

// Says the child's pid on standard output once the child says that it is up.
int StartAndTell(SpawnOptions options, bool leave) {
  Pipe up;
  options.fds = {{up.write.get(), 1}};
  auto child = SpawnProcess(options);
  if (!child.ok()) return 1;
  up.write.reset();
  char byte;
  if (::read(up.read.get(), &byte, 1) != 1) return 1;
  const std::string text = absl::StrCat(child->pid());
  if (::write(1, text.data(), text.size()) < 0) return 1;
  if (!leave) WaitForever();
  ::_exit(0);  // without the destructor, which would kill the child
}

int RunRole(const std::string& role, int argc, char** argv) {
  ::alarm(300);  // nothing of this outlives a test run
  const std::string first = argc > 2 ? argv[2] : "";
  if (role == "exit") return std::atoi(first.c_str());
  if (role == "getenv")
    return ::write(1, ::getenv(first.c_str()), std::strlen(::getenv(first.c_str()))) < 0;
  if (role == "list-fds") return ListFds(std::atoi(argv[2]), std::atoi(argv[3]));
  if (role == "orphan") return StartAndTell(Role("up-and-wait"), true);
  if (role == "parent-of-bound") {
    return StartAndTell(Role("bound", {absl::StrCat(::getpid())}), false);
  }
  if (role == "bound" || role == "bind-to") {
    if (!DieWithParent(std::atoi(first.c_str())).ok()) return 9;
  }
  if (role == "bound" || role == "up-and-wait") {
    if (::write(1, "u", 1) != 1) return 1;
  }
  if (role == "wait" && !first.empty()) {
    ::prctl(PR_SET_NAME, first.c_str());
    ::raise(SIGSTOP);
  }
  WaitForever();
}

}  // namespace
}  // namespace baton::ipc

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.rfind("--role=", 0) == 0) return baton::ipc::RunRole(first.substr(7), argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

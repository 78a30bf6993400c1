// Processes: starting them, watching them, reaping them.
//
// Thread safety: SpawnProcess and the ProcessIdentity functions may be called
// from any thread at any time. A ChildProcess or a ProcessWatch belongs to one
// thread at a time.
//
// Invariants
// 1. A process is known by a pidfd, or by pid and start time; a pid alone is
//    only ever printed (R5).
// 2. A child inherits the descriptors it was given, 1 and 2, and no other.
// 3. A ChildProcess is reaped at the latest when its handle goes.
#ifndef BATON_IPC_PROCESS_H_
#define BATON_IPC_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ipc/unique_fd.h"

namespace baton::ipc {

// A process, so that a later one with the same pid is not mistaken for it.
struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_time = 0;  // clock ticks since boot, from /proc/PID/stat

  // NOT_FOUND when there is no such process; a zombie still is one.
  static absl::StatusOr<ProcessIdentity> Of(pid_t pid);

  friend bool operator==(const ProcessIdentity&, const ProcessIdentity&) = default;
};

// Watches any process, a child or not.
class ProcessWatch {
 public:
  // NOT_FOUND when that process is gone, even if its pid is in use again.
  static absl::StatusOr<ProcessWatch> Open(const ProcessIdentity& identity);

  const ProcessIdentity& identity() const { return identity_; }
  // For poll and epoll: readable from when the process has ended.
  int pidfd() const { return pidfd_.get(); }
  // False from when the process has ended, reaped or not.
  bool alive() const;
  // OK also when the process has ended already.
  absl::Status Kill(int signal) const;

 private:
  ProcessWatch(ProcessIdentity identity, UniqueFd pidfd)
      : identity_(identity), pidfd_(std::move(pidfd)) {}

  ProcessIdentity identity_;
  UniqueFd pidfd_;
};

struct ExitStatus {
  enum class Kind {
    kExited,     // value: the exit code
    kSignalled,  // value: the signal
    kUnknown,    // ended, but somebody else reaped it (SIGCHLD ignored, wait(-1) elsewhere)
  };
  Kind kind = Kind::kUnknown;
  int value = 0;

  bool clean() const { return kind == Kind::kExited && value == 0; }
  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

// "exited with 3", "killed by signal 9 (Killed)".
std::string ToString(const ExitStatus& status);

struct SpawnOptions {
  std::string executable = {};         // a path; PATH is not searched
  std::vector<std::string> args = {};  // without the program's name
  // "NAME=value" each; nullopt: this process's environment.
  std::optional<std::vector<std::string>> env = {};
  // {descriptor here, number in the child}. Standard input is /dev/null unless
  // 0 is in the list.
  std::vector<std::pair<int, int>> fds = {};
  // A group of its own, so that ^C at a terminal reaches only who is to act on
  // it and not the worker that has to drain.
  bool new_process_group = true;
  // Once it has ended, and before it is reaped, what is left of its group is
  // killed: descendants that it started and that hold what it held. Needs
  // new_process_group. One that made a group or session of its own gets away.
  bool kill_group_at_end = false;
};

class ChildProcess {
 public:
  // No child: pid() is 0.
  ChildProcess() = default;
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  // Kills with SIGKILL what has not been reaped, and reaps it. Waits at most
  // kReapOnDestruction: a process in an uninterruptible call is left behind.
  ~ChildProcess();

  pid_t pid() const { return identity_.pid; }
  const ProcessIdentity& identity() const { return identity_; }
  // For poll and epoll: readable from when the child has ended.
  int pidfd() const { return pidfd_.get(); }
  // There is a child, and it has not been reaped.
  bool running() const { return pidfd_.valid() && !exit_status_; }

  // nullopt while it runs, and while it has ended but is traced (by a
  // debugger, say) by a process that has not let go of it. After it was reaped,
  // the same answer again.
  absl::StatusOr<std::optional<ExitStatus>> TryReap();
  // Waits. DEADLINE_EXCEEDED when after `timeout` it would still be nullopt.
  absl::StatusOr<ExitStatus> Reap(absl::Duration timeout);
  // OK also when the child has ended already.
  absl::Status Kill(int signal);
  // Lets go of it: this handle neither kills nor reaps it any more. For one
  // that SIGKILL does not end, so that nobody waits for it.
  void Release() { pidfd_.reset(); }

 private:
  friend absl::StatusOr<ChildProcess> SpawnProcess(const SpawnOptions& options);
  friend absl::StatusOr<ChildProcess> AdoptChild(pid_t pid);

  void Finish();
  void KillGroupIfEnded();

  bool kill_group_at_end_ = false;
  ProcessIdentity identity_;
  UniqueFd pidfd_;
  std::optional<ExitStatus> exit_status_;
};

inline constexpr absl::Duration kReapOnDestruction = absl::Seconds(10);

// Starts a program with all signals at their defaults and none blocked. Safe
// in a process with many threads: nothing of ours runs between fork and exec.
// NOT_FOUND or PERMISSION_DENIED when the program cannot be run.
absl::StatusOr<ChildProcess> SpawnProcess(const SpawnOptions& options);

// Descendants of this process whose parent ends become its children from now on,
// and no more init's: it has to reap them (PR_SET_CHILD_SUBREAPER).
absl::Status InheritOrphans();

// Children that were not reaped yet, those that were inherited included.
// UNIMPLEMENTED where /proc does not tell (CONFIG_PROC_CHILDREN).
absl::StatusOr<std::vector<pid_t>> ChildrenOfThisProcess();

// A child that this process has inherited, by pid: right as long as nobody
// else in this process reaps it. It is killed and reaped with its handle, like
// one that was spawned.
absl::StatusOr<ChildProcess> AdoptChild(pid_t pid);

// Asks the kernel to SIGKILL this process when the thread that started it
// ends, and checks that the parent is still `expected_parent`.
// FAILED_PRECONDITION when it is not: the parent died before; exit.
//
// "Thread", not "process": start such children only from a thread that lives
// as long as they are to (the supervisor's main thread). A parent that cannot
// promise that gives its child a socket to see it die by instead.
absl::Status DieWithParent(pid_t expected_parent);

}  // namespace baton::ipc

#endif  // BATON_IPC_PROCESS_H_

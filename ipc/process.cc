#include "ipc/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "ipc/poll_fd.h"

namespace baton::ipc {
namespace {

// In `man 5 proc` the start time is field 22 of stat; the state, which follows
// the parenthesised name, is field 3.
constexpr int kStateField = 3;
constexpr int kStartTimeField = 22;

// As system calls: glibc 2.36's <sys/pidfd.h> does not say extern "C".
UniqueFd PidfdOpen(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

absl::Status SendSignal(int pidfd, pid_t pid, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0 || errno == ESRCH) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot send signal ", signal, " to pid ", pid));
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// What happens to descriptors between fork and exec.
class FileActions {
 public:
  FileActions() { ::posix_spawn_file_actions_init(&actions_); }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;

  absl::Status Set(const std::vector<std::pair<int, int>>& fds) {
    int highest = STDERR_FILENO;
    for (const auto& [parent_fd, child_fd] : fds) {
      if (child_fd < 0) {
        return absl::InvalidArgumentError(absl::StrCat("no descriptor number: ", child_fd));
      }
      highest = std::max(highest, child_fd);
    }
    const auto given = [&fds](int number) {
      return std::any_of(fds.begin(), fds.end(),
                         [number](const auto& pair) { return pair.second == number; });
    };
    if (!given(STDIN_FILENO)) {
      ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    for (const auto& [parent_fd, child_fd] : fds) {
      // By way of a copy above all of them: a dup2 in the child must not land
      // on a descriptor that a later one still has to read.
      UniqueFd copy(::fcntl(parent_fd, F_DUPFD_CLOEXEC, highest + 1));
      if (!copy) {
        return absl::ErrnoToStatus(
            errno, absl::StrCat("cannot hand descriptor ", parent_fd, " to a child as ", child_fd));
      }
      ::posix_spawn_file_actions_adddup2(&actions_, copy.get(), child_fd);
      copies_.push_back(std::move(copy));
    }
    for (int number = STDERR_FILENO + 1; number < highest; ++number) {
      if (!given(number)) ::posix_spawn_file_actions_addclose(&actions_, number);
    }
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, highest + 1);
    return absl::OkStatus();
  }

  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
  std::vector<UniqueFd> copies_;
};

class SpawnAttributes {
 public:
  explicit SpawnAttributes(bool new_process_group) {
    ::posix_spawnattr_init(&attributes_);
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    // Also those that this process ignores: an ignored signal stays ignored
    // over exec, and a worker that ignores SIGTERM or SIGCHLD misbehaves.
    sigset_t all;
    ::sigfillset(&all);
    ::sigdelset(&all, SIGKILL);
    ::sigdelset(&all, SIGSTOP);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (new_process_group) {
      ::posix_spawnattr_setpgroup(&attributes_, 0);
      flags |= POSIX_SPAWN_SETPGROUP;
    }
    ::posix_spawnattr_setflags(&attributes_, flags);
  }
  ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;

  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

ExitStatus FromSiginfo(const siginfo_t& info) {
  using Kind = ExitStatus::Kind;
  return {info.si_code == CLD_EXITED ? Kind::kExited : Kind::kSignalled, info.si_status};
}

}  // namespace

absl::StatusOr<ProcessIdentity> ProcessIdentity::Of(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  const std::string stat{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  // The name may hold spaces and parentheses; the last ')' ends it.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) {
    if (::kill(pid, 0) != 0 && errno == ESRCH) {
      return absl::NotFoundError(absl::StrCat("there is no process ", pid));
    }
    // Between the two calls the process may have gone: look again.
    if (::access(absl::StrCat("/proc/", pid).c_str(), F_OK) != 0 &&
        ::access("/proc/self/stat", F_OK) == 0) {
      return absl::NotFoundError(absl::StrCat("there is no process ", pid));
    }
    return absl::InternalError(
        absl::StrCat("cannot read /proc/", pid, "/stat; /proc has to be mounted"));
  }
  std::string_view rest = std::string_view(stat).substr(name_end + 1);
  for (int field = kStateField; !rest.empty(); ++field) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (field == kStartTimeField) {
      ProcessIdentity identity{.pid = pid};
      const auto [end, error] =
          std::from_chars(word.data(), word.data() + word.size(), identity.start_time);
      if (error == std::errc()) return identity;
      break;
    }
    rest.remove_prefix(word.size());
  }
  return absl::InternalError(absl::StrCat("cannot find the start time in /proc/", pid, "/stat"));
}

absl::StatusOr<ProcessWatch> ProcessWatch::Open(const ProcessIdentity& identity) {
  const auto gone = [&identity] {
    return absl::NotFoundError(absl::StrCat("process ", identity.pid, " has ended"));
  };
  UniqueFd pidfd = PidfdOpen(identity.pid);
  if (!pidfd) {
    if (errno == ESRCH) return gone();
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot watch process ", identity.pid));
  }
  // Looked at after the open: if the pid means the same process now, it meant
  // it then, because a pid that was given out again never gets back.
  absl::StatusOr<ProcessIdentity> now = ProcessIdentity::Of(identity.pid);
  if (absl::IsNotFound(now.status()) || (now.ok() && *now != identity)) return gone();
  if (!now.ok()) return now.status();
  return ProcessWatch(identity, std::move(pidfd));
}

bool ProcessWatch::alive() const { return !PollFd(pidfd_.get(), POLLIN, absl::ZeroDuration()); }

absl::Status ProcessWatch::Kill(int signal) const {
  return SendSignal(pidfd_.get(), identity_.pid, signal);
}

std::string ToString(const ExitStatus& status) {
  switch (status.kind) {
    case ExitStatus::Kind::kExited:
      return absl::StrCat("exited with ", status.value);
    case ExitStatus::Kind::kSignalled: {
      const char* name = ::sigdescr_np(status.value);
      return absl::StrCat("killed by signal ", status.value, " (", name ? name : "unknown", ")");
    }
    case ExitStatus::Kind::kUnknown:
      break;
  }
  return "ended, and somebody else took its exit status";
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : kill_group_at_end_(other.kill_group_at_end_),
      identity_(std::exchange(other.identity_, {})),
      pidfd_(std::move(other.pidfd_)),
      exit_status_(std::exchange(other.exit_status_, std::nullopt)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  Finish();
  kill_group_at_end_ = other.kill_group_at_end_;
  identity_ = std::exchange(other.identity_, {});
  pidfd_ = std::move(other.pidfd_);
  exit_status_ = std::exchange(other.exit_status_, std::nullopt);
  return *this;
}

ChildProcess::~ChildProcess() { Finish(); }

void ChildProcess::Finish() {
  if (!running()) return;
  // Nobody is left to tell, and Reap says all that there is to say.
  Kill(SIGKILL).IgnoreError();
  Reap(kReapOnDestruction).status().IgnoreError();
}

void ChildProcess::KillGroupIfEnded() {
  siginfo_t info = {};
  const int result =
      ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG | WNOWAIT);
  // Ended and not reaped: until it is, nobody else can have its number, nor its group's.
  if (result == 0 && info.si_pid == pid() && pid() > 1) ::kill(-pid(), SIGKILL);
}

absl::StatusOr<std::optional<ExitStatus>> ChildProcess::TryReap() {
  if (exit_status_) return exit_status_;
  if (!pidfd_) return absl::FailedPreconditionError("there is no child to reap");
  if (kill_group_at_end_) KillGroupIfEnded();
  siginfo_t info = {};
  int result;
  do {
    result = ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    if (errno != ECHILD) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot wait for child ", pid()));
    }
    // Not ours to reap any more. The pidfd still says whether it has ended.
    if (!PollFd(pidfd_.get(), POLLIN, absl::ZeroDuration())) return std::nullopt;
    exit_status_ = ExitStatus{};
    return exit_status_;
  }
  if (info.si_pid == 0) return std::nullopt;
  exit_status_ = FromSiginfo(info);
  return exit_status_;
}

absl::StatusOr<ExitStatus> ChildProcess::Reap(absl::Duration timeout) {
  if (!pidfd_) return absl::FailedPreconditionError("there is no child to reap");
  const absl::Time deadline = absl::Now() + timeout;
  if (!exit_status_ && !PollFd(pidfd_.get(), POLLIN, timeout)) {
    return absl::DeadlineExceededError(
        absl::StrCat("child ", pid(), " still runs after ", absl::FormatDuration(timeout)));
  }
  for (;;) {
    absl::StatusOr<std::optional<ExitStatus>> status = TryReap();
    if (!status.ok()) return status.status();
    if (status->has_value()) return **status;
    // It has ended, but whoever traces it (a debugger, strace, a leak checker) has not let go of
    // it: until then it is not ours to wait for, and nothing tells when it is.
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("child ", pid(), " has ended but is still traced by another process"));
    }
    ::poll(nullptr, 0, 1);
  }
}

absl::Status ChildProcess::Kill(int signal) {
  if (exit_status_) return absl::OkStatus();
  if (!pidfd_) return absl::FailedPreconditionError("there is no child to signal");
  return SendSignal(pidfd_.get(), pid(), signal);
}

absl::StatusOr<ChildProcess> SpawnProcess(const SpawnOptions& options) {
  FileActions actions;
  if (absl::Status status = actions.Set(options.fds); !status.ok()) return status;
  const SpawnAttributes attributes(options.new_process_group);

  std::vector<std::string> args = {options.executable};
  args.insert(args.end(), options.args.begin(), options.args.end());
  std::vector<std::string> env = options.env.value_or(std::vector<std::string>());
  std::vector<char*> arg_pointers = Pointers(args);
  std::vector<char*> env_pointers = Pointers(env);

  ChildProcess child;
  pid_t pid = 0;
  // glibc starts the child with CLONE_VM | CLONE_VFORK and runs nothing of
  // ours in it: no lock that another thread holds can be waited for there.
  const int error =
      ::posix_spawn(&pid, options.executable.c_str(), actions.get(), attributes.get(),
                    arg_pointers.data(), options.env ? env_pointers.data() : ::environ);
  if (error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot start ", options.executable));
  }
  child.pidfd_ = PidfdOpen(pid);
  if (!child.pidfd_) {
    const int open_error = errno;
    // Not reaped yet, so the pid is still the child's.
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return absl::ErrnoToStatus(open_error, absl::StrCat("cannot hold process ", pid, " (",
                                                        options.executable, ") by a pidfd"));
  }
  child.kill_group_at_end_ = options.kill_group_at_end && options.new_process_group;
  child.identity_.pid = pid;
  if (absl::StatusOr<ProcessIdentity> identity = ProcessIdentity::Of(pid); identity.ok()) {
    child.identity_ = *identity;
  }
  return child;
}

absl::Status InheritOrphans() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "cannot inherit orphaned descendants");
}

absl::StatusOr<std::vector<pid_t>> ChildrenOfThisProcess() {
  std::vector<pid_t> children;
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(::opendir("/proc/self/task"), &::closedir);
  if (tasks == nullptr) return absl::ErrnoToStatus(errno, "cannot list this process's threads");
  // A child belongs to the thread that started it, an inherited one to any.
  bool told = false;
  while (const dirent* task = ::readdir(tasks.get())) {
    if (task->d_name[0] == '.') continue;
    std::ifstream file(absl::StrCat("/proc/self/task/", task->d_name, "/children"));
    told = told || file.is_open();
    for (pid_t pid = 0; file >> pid;) children.push_back(pid);
  }
  if (!told) return absl::UnimplementedError("this kernel's /proc does not list children");
  return children;
}

absl::StatusOr<ChildProcess> AdoptChild(pid_t pid) {
  ChildProcess child;
  child.pidfd_ = PidfdOpen(pid);
  if (!child.pidfd_) return absl::ErrnoToStatus(errno, absl::StrCat("cannot adopt child ", pid));
  child.identity_.pid = pid;
  if (const auto identity = ProcessIdentity::Of(pid); identity.ok()) child.identity_ = *identity;
  return child;
}

absl::Status DieWithParent(pid_t expected_parent) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
    return absl::ErrnoToStatus(errno, "cannot ask to die with the parent");
  }
  // It may have died before the call: then no signal comes any more.
  if (::getppid() != expected_parent) {
    return absl::FailedPreconditionError(
        absl::StrCat("the parent, process ", expected_parent, ", has ended"));
  }
  return absl::OkStatus();
}

}  // namespace baton::ipc

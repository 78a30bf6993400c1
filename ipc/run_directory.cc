#include "ipc/run_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "ipc/descriptor_holders.h"
#include "ipc/futex.h"
#include "ipc/process.h"

namespace baton::ipc {
namespace {

constexpr char kLockName[] = "lock";
constexpr char kSocketName[] = "control.sock";
constexpr char kLifeName[] = "workers";
constexpr int kEagerPollMs = 1;
constexpr int kPatientPollMs = 100;

// Opens `name` under `parent` (AT_FDCWD: a path), made when it is missing, and
// checks what was opened rather than what a path meant a moment ago.
absl::StatusOr<UniqueFd> OpenPrivateDirectory(int parent, const std::string& name,
                                              const std::string& path) {
  const bool made = ::mkdirat(parent, name.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) {
    const absl::Status status = absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", path));
    return absl::FailedPreconditionError(absl::StrCat(
        status.message(), ". Set XDG_RUNTIME_DIR to a directory of yours, or unset it"));
  }
  UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) {
    if (errno == ELOOP || errno == ENOTDIR) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, " is a symbolic link or no directory. Remove it"));
    }
    const absl::Status status = absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
    return absl::FailedPreconditionError(
        absl::StrCat(status.message(), ". Remove it, or set XDG_RUNTIME_DIR to another place"));
  }
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", path));
  }
  if (info.st_uid != ::geteuid()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " belongs to user ", info.st_uid, ", not to user ", ::geteuid(),
                     ". Set XDG_RUNTIME_DIR to a directory of yours"));
  }
  if ((info.st_mode & 0777) != 0700) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s has mode %03o, so others can get at it. Look who made it so, then "
                        "chmod 700 it or remove it",
                        path, info.st_mode & 0777));
  }
  return fd;
}

struct flock WholeFile() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

pid_t PidIn(int lock_fd) {
  char text[32];
  const ssize_t got = ::pread(lock_fd, text, sizeof(text), 0);
  pid_t pid = 0;
  if (got > 0) std::from_chars(text, text + got, pid);
  return pid;
}

// Takes no lock. Locks of open file descriptions (not flock) because they can
// be asked about.
bool IsLocked(int lock_fd) {
  struct flock lock = WholeFile();
  return ::fcntl(lock_fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

// The pid of the server whose lock `<folder>/lock` is; nullopt when none runs.
std::optional<pid_t> RunningServer(int directory, const std::string& name) {
  const UniqueFd lock(::openat(directory, absl::StrCat(name, "/", kLockName).c_str(),
                               O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!lock || !IsLocked(lock.get())) return std::nullopt;
  return PidIn(lock.get());
}

// Those that have `fd`'s file open are of a server whose lock is ours now.
std::vector<pid_t> KillHolders(int fd) {
  std::vector<pid_t> holders = FindDescriptorHolders(fd);
  for (const pid_t pid : holders) {
    const auto identity = ProcessIdentity::Of(pid);
    if (!identity.ok()) continue;
    const auto watch = ProcessWatch::Open(*identity);
    // Whoever has it open now is the one that the pidfd is of: it cannot be had by anybody new.
    if (watch.ok() && HoldsDescriptor(pid, fd)) watch->Kill(SIGKILL).IgnoreError();
  }
  return holders;
}

}  // namespace

absl::Status CheckServerName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (name.empty() || name.size() > kMaxServerNameBytes || name.front() == '.' ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", std::string(name), "' cannot name a server: use 1 to ", kMaxServerNameBytes,
        " letters, digits, '.', '_' and '-', and do not start with '.'"));
  }
  return absl::OkStatus();
}

ServerFolder& ServerFolder::operator=(ServerFolder&& other) noexcept {
  if (this == &other) return *this;
  Leave();
  name_ = std::move(other.name_);
  path_ = std::move(other.path_);
  lock_ = std::move(other.lock_);
  life_ = std::move(other.life_);
  return *this;
}

ServerFolder::~ServerFolder() { Leave(); }

void ServerFolder::Leave() {
  if (!lock_) return;
  ::unlink(control_socket().c_str());
  lock_.reset();
}

absl::Status ServerFolder::AwaitPredecessor(absl::Duration grace, absl::Duration patience) {
  const std::string path = absl::StrCat(path_, "/", kLifeName);
  UniqueFd life(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!life) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  const int64_t begun = MonotonicNs();
  const auto passed = [begun](absl::Duration time) {
    return absl::Nanoseconds(MonotonicNs() - begun) >= time;
  };
  // A lock of the description, which every descriptor passed on shares: it goes with the last.
  for (struct flock whole = WholeFile(); ::fcntl(life.get(), F_OFD_SETLK, &whole) != 0;
       whole = WholeFile()) {
    if (errno != EAGAIN && errno != EACCES) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", path));
    }
    std::vector<pid_t> holders;
    if (passed(grace)) holders = KillHolders(life.get());
    if (passed(grace + patience)) {
      return absl::UnavailableError(absl::StrCat(
          "the server that was called '", name_, "' before has ended, but process ",
          holders.empty() ? "(unknown)" : absl::StrJoin(holders, ", "),
          " of its worker has not, and may hold device memory. End it, or restart the machine"));
    }
    ::poll(nullptr, 0, passed(grace) ? kPatientPollMs : kEagerPollMs);
  }
  life_ = std::move(life);
  return absl::OkStatus();
}

absl::StatusOr<RunDirectory> RunDirectory::Open() {
  // A relative one is to be ignored, says the XDG Base Directory Specification.
  const char* xdg = std::getenv("XDG_RUNTIME_DIR");
  if (xdg != nullptr && xdg[0] == '/') return OpenAt(absl::StrCat(xdg, "/baton"));
  return OpenAt(absl::StrCat("/tmp/baton-", ::geteuid()));
}

absl::StatusOr<RunDirectory> RunDirectory::OpenAt(std::string path) {
  absl::StatusOr<UniqueFd> fd = OpenPrivateDirectory(AT_FDCWD, path, path);
  if (!fd.ok()) return fd.status();
  return RunDirectory(std::move(path), *std::move(fd));
}

absl::StatusOr<std::string> RunDirectory::FolderOf(std::string_view name) const {
  if (absl::Status status = CheckServerName(name); !status.ok()) return status;
  return absl::StrCat(path_, "/", std::string(name));
}

absl::StatusOr<ServerFolder> RunDirectory::Claim(std::string_view server_name) const {
  absl::StatusOr<std::string> path = FolderOf(server_name);
  if (!path.ok()) return path.status();
  const std::string name(server_name);
  const size_t socket_bytes = path->size() + sizeof(kSocketName);  // '/' and no NUL
  if (socket_bytes >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the control socket's path, ", *path, "/", kSocketName, ", has ", socket_bytes,
                     " bytes; a Unix socket can have ", sizeof(sockaddr_un::sun_path) - 1,
                     ". Use a shorter server name or XDG_RUNTIME_DIR"));
  }
  absl::StatusOr<UniqueFd> folder = OpenPrivateDirectory(fd_.get(), name, *path);
  if (!folder.ok()) return folder.status();
  UniqueFd lock(
      ::openat(folder->get(), kLockName, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", *path, "/", kLockName));
  }
  struct flock whole = WholeFile();
  if (::fcntl(lock.get(), F_OFD_SETLK, &whole) != 0) {
    if (errno != EAGAIN && errno != EACCES) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", *path, "/", kLockName));
    }
    return absl::AlreadyExistsError(absl::StrCat("'", name, "' is already being served by process ",
                                                 PidIn(lock.get()),
                                                 ". Stop that one, or choose another name"));
  }
  // Never removed: a lock on a file that has lost its name excludes nobody.
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(lock.get(), 0) != 0 ||
      ::pwrite(lock.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", *path, "/", kLockName));
  }
  ServerFolder result;
  result.name_ = name;
  result.path_ = *std::move(path);
  result.lock_ = std::move(lock);
  return result;
}

absl::StatusOr<std::vector<ServerEntry>> RunDirectory::ListServers() const {
  // A descriptor of its own: reading a directory moves a shared position.
  UniqueFd fd(::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(fd ? ::fdopendir(fd.get()) : nullptr,
                                                      &::closedir);
  if (directory == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot list ", path_));
  }
  fd.release();
  std::vector<ServerEntry> servers;
  while (const dirent* item = ::readdir(directory.get())) {
    const std::string name = item->d_name;
    if (!CheckServerName(name).ok()) continue;
    const std::optional<pid_t> pid = RunningServer(fd_.get(), name);
    if (!pid) continue;
    const std::string folder = absl::StrCat(path_, "/", name);
    servers.push_back({.name = name,
                       .pid = *pid,
                       .folder = folder,
                       .control_socket = absl::StrCat(folder, "/", kSocketName)});
  }
  std::sort(servers.begin(), servers.end(),
            [](const ServerEntry& a, const ServerEntry& b) { return a.name < b.name; });
  return servers;
}

absl::StatusOr<ServerEntry> RunDirectory::FindServer(std::string_view name) const {
  if (absl::Status status = CheckServerName(name); !status.ok()) return status;
  absl::StatusOr<std::vector<ServerEntry>> servers = ListServers();
  if (!servers.ok()) return servers.status();
  for (const ServerEntry& server : *servers) {
    if (server.name == name) return server;
  }
  const std::string others = absl::StrJoin(
      *servers, ", ",
      [](std::string* out, const ServerEntry& server) { absl::StrAppend(out, server.name); });
  return absl::NotFoundError(absl::StrCat(
      "no server named '", std::string(name), "' runs; ",
      others.empty() ? absl::StrCat("none does in ", path_) : absl::StrCat("these do: ", others)));
}

}  // namespace baton::ipc

#include "tools/shmctl/host_checks.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/process.h"
#include "ipc/unique_fd.h"
#include "tools/shmctl/quantity_text.h"
#include "tools/shmctl/server_client.h"

namespace baton::shmctl {
namespace {

using Level = Check::Level;

// A container's default is 64 MiB, which one channel with large payloads fills.
constexpr uint64_t kSmallSharedMemoryBytes = uint64_t{256} << 20;
// A server keeps two or three descriptors a channel.
constexpr rlim_t kFewDescriptors = 1024;
// One staging ring for uploads.
constexpr rlim_t kLittleLockedBytes = rlim_t{64} << 20;
constexpr size_t kProbeBytes = 4096;

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

std::string ErrnoText() { return std::strerror(errno); }

std::string LimitText(rlim_t limit, const std::string& unit) {
  return limit == RLIM_INFINITY ? "unlimited" : absl::StrCat(limit, unit);
}

Check CheckMemfd() {
  Check check{Level::kOk, "memfd", "the kernel makes sealable files in memory", ""};
  const ipc::UniqueFd fd(::memfd_create("baton-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) {
    check = {Level::kFail, "memfd", absl::StrCat("memfd_create: ", ErrnoText()),
             "Baton needs Linux 3.17 or later, and a seccomp profile that lets it through"};
  }
  return check;
}

// What the host device's confirmation rests on, end to end.
Check CheckSeals() {
  const auto failed = [](const std::string& what) {
    return Check{Level::kFail, "F_ADD_SEALS", what,
                 "without it nobody can confirm that host memory is free: use another kernel"};
  };
  const ipc::UniqueFd fd(::memfd_create("baton-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), kProbeBytes) != 0) return failed("there is no memfd to seal");
  void* mapped = ::mmap(nullptr, kProbeBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) return failed(absl::StrCat("mmap: ", ErrnoText()));
  const bool refused = ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) != 0 && errno == EBUSY;
  ::munmap(mapped, kProbeBytes);
  if (!refused) return failed("F_SEAL_WRITE is not refused while the file is mapped");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) != 0) {
    return failed(absl::StrCat("F_SEAL_WRITE on a file that nobody maps: ", ErrnoText()));
  }
  return {Level::kOk, "F_ADD_SEALS", "the kernel tells whether memory is still mapped", ""};
}

Check CheckPidfd() {
  const ipc::UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (fd) return {Level::kOk, "pidfd", "processes can be watched without a race", ""};
  return {Level::kFail, "pidfd", absl::StrCat("pidfd_open: ", ErrnoText()),
          "Baton needs Linux 5.4 or later, and a seccomp profile that lets it through"};
}

Check CheckFutexWaitv() {
  // No futex at all: EINVAL from a kernel that has it.
  const long rc = ::syscall(SYS_futex_waitv, nullptr, 0, 0, nullptr, CLOCK_MONOTONIC);
  if (rc == 0 || errno == EINVAL) {
    return {Level::kOk, "futex_waitv", "a front waits for several words at once", ""};
  }
  return {Level::kWarn, "futex_waitv",
          absl::StrCat(ErrnoText(), ": a front sees some wakes only when it looks again"),
          "use Linux 5.16 or later, and a seccomp profile that lets it through"};
}

Check CheckSubreaper() {
  int reaper = 0;
  if (::prctl(PR_GET_CHILD_SUBREAPER, &reaper, 0, 0, 0) != 0) {
    return {Level::kWarn, "subreaper", absl::StrCat("prctl: ", ErrnoText()),
            "what models leave behind is not found: use another kernel"};
  }
  if (const auto children = ipc::ChildrenOfThisProcess(); !children.ok()) {
    return {Level::kWarn, "subreaper", std::string(children.status().message()),
            "what models leave behind is not found: mount /proc, use a kernel with PROC_CHILDREN"};
  }
  return {Level::kOk, "subreaper", "what models leave behind is inherited and found", ""};
}

}  // namespace

Check CheckSharedMemory(const std::string& directory) {
  struct statvfs space = {};
  struct statfs kind = {};
  if (::statvfs(directory.c_str(), &space) != 0 || ::statfs(directory.c_str(), &kind) != 0) {
    return {Level::kFail, directory, ErrnoText(), "mount a tmpfs there"};
  }
  const ipc::UniqueFd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file) {
    return {Level::kFail, directory, absl::StrCat("nothing can be created: ", ErrnoText()),
            "mount a tmpfs there that this user may write, mode 1777"};
  }
  const uint64_t total = uint64_t{space.f_blocks} * space.f_frsize;
  const uint64_t free = uint64_t{space.f_bavail} * space.f_frsize;
  const std::string found = absl::StrCat(BytesText(free), " of ", BytesText(total), " free");
  if (kind.f_type != TMPFS_MAGIC) {
    return {Level::kWarn, directory, absl::StrCat(found, ", but it is no tmpfs"),
            "payloads may be written to a disk: mount a tmpfs there"};
  }
  if (free < kSmallSharedMemoryBytes) {
    return {Level::kWarn, directory, found,
            "channels with large payloads will not fit: in a container use --shm-size=1g"};
  }
  return {Level::kOk, directory, absl::StrCat(found, ", writable"), ""};
}

Check CheckRunDirectory(const std::string& path) {
  const absl::StatusOr<ipc::RunDirectory> directory = OpenRunDirectory(path);
  if (!directory.ok()) {
    return {Level::kFail, "run directory", std::string(directory.status().message()),
            "or choose another one with --run-directory, or XDG_RUNTIME_DIR"};
  }
  return {Level::kOk, "run directory", absl::StrCat(directory->path(), ", 0700, this user's"), ""};
}

Check CheckOpenFiles(const rlimit& limit) {
  // A server raises the soft one to the hard one.
  Check check{Level::kOk, "open files",
              absl::StrCat(LimitText(limit.rlim_max, ""), " at most (now ",
                           LimitText(limit.rlim_cur, ""), ")"),
              ""};
  if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < kFewDescriptors) {
    check.level = Level::kWarn;
    check.remedy = "a server keeps three descriptors a channel: raise ulimit -Hn";
  }
  return check;
}

Check CheckLockedMemory(const rlimit& limit, bool needs_gpu) {
  Check check{Level::kOk, "locked memory", LimitText(limit.rlim_max, " bytes"), ""};
  if (needs_gpu && limit.rlim_max != RLIM_INFINITY && limit.rlim_max < kLittleLockedBytes) {
    check.level = Level::kWarn;
    check.remedy = "pinned staging buffers may not be had: raise ulimit -Hl";
  }
  return check;
}

std::vector<Check> CheckKernel() {
  utsname name = {};
  ::uname(&name);
  return {{Level::kOk, "kernel", absl::StrCat(name.sysname, " ", name.release), ""},
          CheckMemfd(),
          CheckSeals(),
          CheckPidfd(),
          CheckFutexWaitv(),
          CheckSubreaper()};
}

std::vector<Check> CheckHost(const std::string& run_directory, bool needs_gpu) {
  rlimit files = {};
  rlimit locked = {};
  ::getrlimit(RLIMIT_NOFILE, &files);
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  std::vector<Check> checks = {CheckSharedMemory("/dev/shm"), CheckRunDirectory(run_directory),
                               CheckOpenFiles(files), CheckLockedMemory(locked, needs_gpu)};
  for (Check& check : CheckKernel()) checks.push_back(std::move(check));
  return checks;
}

}  // namespace baton::shmctl

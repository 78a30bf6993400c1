#include "tools/shmctl/probe_process.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/process.h"
#include "ipc/unique_fd.h"

namespace baton::shmctl {
namespace {

// How long SIGKILL may take before it is said that it does nothing.
constexpr absl::Duration kDying = absl::Seconds(2);

std::string ReadWhole(int fd) {
  std::string text;
  char piece[4096];
  for (;;) {
    const ssize_t got = ::pread(fd, piece, sizeof(piece), static_cast<off_t>(text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(piece, static_cast<size_t>(got));
  }
}

}  // namespace

absl::StatusOr<ProbeOutput> RunProbe(const std::vector<std::string>& args, absl::Duration timeout) {
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return absl::ErrnoToStatus(error.value(), "cannot find this program in /proc");
  // A file, not a pipe: nobody has to read while it runs.
  const ipc::UniqueFd out(::memfd_create("baton-doctor-probe", MFD_CLOEXEC));
  if (!out) return absl::ErrnoToStatus(errno, "cannot create a memfd for a probe");
  auto child =
      ipc::SpawnProcess({.executable = self, .args = args, .fds = {{out.get(), STDOUT_FILENO}}});
  if (!child.ok()) return child.status();
  ProbeOutput output;
  const absl::StatusOr<ipc::ExitStatus> ended = child->Reap(timeout);
  if (ended.ok()) {
    if (!ended->clean()) output.problem = ipc::ToString(*ended);
  } else if (absl::IsDeadlineExceeded(ended.status())) {
    output.problem = absl::StrCat("no answer within ", absl::FormatDuration(timeout));
    child->Kill(SIGKILL).IgnoreError();
    if (!child->Reap(kDying).ok()) {
      absl::StrAppend(&output.problem, "; process ", child->pid(),
                      " hangs in the kernel, and SIGKILL does not end it");
      child->Release();
    }
  } else {
    output.problem = std::string(ended.status().message());
  }
  output.text = ReadWhole(out.get());
  return output;
}

}  // namespace baton::shmctl

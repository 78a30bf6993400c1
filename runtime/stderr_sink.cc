#include "runtime/stderr_sink.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <string>

#include "absl/strings/str_cat.h"

namespace baton::runtime {

namespace {

constexpr std::string_view kCut = " [...]\n";

bool CanWrite(int fd) {
  pollfd wanted{fd, POLLOUT, 0};
  return ::poll(&wanted, 1, 0) > 0;
}

}  // namespace

StderrSink::StderrSink(int fd) : fd_(fd) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return;
  file_ = S_ISREG(info.st_mode);
  if (!S_ISFIFO(info.st_mode)) return;
  // Another writer may fill the pipe between a poll and a write. O_NONBLOCK belongs to the open
  // description, which is shared with others: this one is ours.
  own_.reset(::open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
}

void StderrSink::sink_it_(const spdlog::details::log_msg& message) {
  if (dropped_ > 0) {
    const std::string text =
        absl::StrCat(dropped_, dropped_ == 1 ? " log line was dropped" : " log lines were dropped");
    spdlog::memory_buf_t line;
    formatter_->format({message.time, {}, message.logger_name, spdlog::level::warn, text}, line);
    if (!Write({line.data(), line.size()})) {
      ++dropped_;
      return;
    }
    dropped_ = 0;
  }
  spdlog::memory_buf_t line;
  formatter_->format(message, line);
  if (!Write({line.data(), line.size()})) dropped_ = 1;
}

bool StderrSink::Write(std::string_view line) {
  std::string cut;
  if (line.size() > PIPE_BUF) {
    cut = line.substr(0, PIPE_BUF - kCut.size());
    cut += kCut;
    line = cut;
  }
  const int fd = own_ ? own_.get() : fd_;
  // Of a pipe, POLLOUT says that there is room for PIPE_BUF bytes.
  if (!own_ && !file_ && !CanWrite(fd)) return false;
  ssize_t written;
  do {
    written = ::write(fd, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  // Only a full one gets better; a line for a pipe that nobody reads any more is nobody's loss.
  return written >= 0 || errno != EAGAIN;
}

}  // namespace baton::runtime

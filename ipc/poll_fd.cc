#include "ipc/poll_fd.h"

#include <poll.h>

#include <cerrno>
#include <ctime>

namespace baton::ipc {
namespace {

// absl::Now() is the wall clock, which may jump.
absl::Duration Monotonic() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

}  // namespace

bool PollFd(int fd, short events, absl::Duration timeout) {
  pollfd entry = {.fd = fd, .events = events, .revents = 0};
  const bool forever = timeout == absl::InfiniteDuration();
  const absl::Duration deadline = forever ? timeout : Monotonic() + timeout;
  absl::Duration left = timeout;
  while (true) {
    if (left < absl::ZeroDuration()) left = absl::ZeroDuration();
    const timespec wait = forever ? timespec{} : absl::ToTimespec(left);
    const int ready = ::ppoll(&entry, 1, forever ? nullptr : &wait, nullptr);
    if (ready > 0) return true;
    // Whatever else is wrong with the descriptor, the caller's own call on it
    // will say better.
    if (ready < 0 && errno != EINTR) return true;
    left = deadline - Monotonic();
    if (ready == 0 || (!forever && left <= absl::ZeroDuration())) return false;
  }
}

}  // namespace baton::ipc

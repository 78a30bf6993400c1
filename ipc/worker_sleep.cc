#include "ipc/worker_sleep.h"

#include <poll.h>
#include <time.h>

namespace baton::ipc {

bool WorkerSleep::Poll(int64_t timeout_ns, bool doorbell) {
  constexpr int64_t kSecond = 1'000'000'000;
  // poll ignores a negative descriptor.
  pollfd fds[2] = {{command_fd_, POLLIN, 0}, {doorbell ? doorbell_fd_ : -1, POLLIN, 0}};
  // EINTR is a wake for nothing, like any other.
  const timespec timeout = {.tv_sec = timeout_ns / kSecond, .tv_nsec = timeout_ns % kSecond};
  const int ready = ::ppoll(fds, 2, timeout_ns < 0 ? nullptr : &timeout, nullptr);
  if (ready <= 0) return ready < 0;
  for (const pollfd& fd : fds) {
    if ((fd.revents & POLLIN) != 0) DrainEventFd(fd.fd);
  }
  return true;
}

}  // namespace baton::ipc

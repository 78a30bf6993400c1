#include "ipc/worker_sleep.h"

#include <poll.h>

namespace baton::ipc {

void WorkerSleep::Poll(int timeout_ms, bool doorbell) {
  // poll ignores a negative descriptor.
  pollfd fds[2] = {{command_fd_, POLLIN, 0}, {doorbell ? doorbell_fd_ : -1, POLLIN, 0}};
  // EINTR is a wake for nothing, like any other.
  if (::poll(fds, 2, timeout_ms) <= 0) return;
  for (const pollfd& fd : fds) {
    if ((fd.revents & POLLIN) != 0) DrainEventFd(fd.fd);
  }
}

}  // namespace baton::ipc

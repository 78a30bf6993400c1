#include "ipc/eventfd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"

namespace baton::ipc {

absl::StatusOr<UniqueFd> CreateEventFd() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot create an eventfd");
  return fd;
}

void SignalEventFd(int fd) {
  const uint64_t one = 1;
  // EAGAIN means that the counter is full, so the descriptor is readable.
  while (::write(fd, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

bool DrainEventFd(int fd) {
  uint64_t count = 0;
  ssize_t got;
  do {
    got = ::read(fd, &count, sizeof(count));
  } while (got < 0 && errno == EINTR);
  return got == sizeof(count) && count > 0;
}

}  // namespace baton::ipc

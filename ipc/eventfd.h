// Eventfds: how a sleeping worker or an epoll loop is woken by many.
//
// Thread safety: any number of threads and processes may signal and drain one
// eventfd. Signals add up to one wake-up: whoever drains looks at everything.
#ifndef BATON_IPC_EVENTFD_H_
#define BATON_IPC_EVENTFD_H_

#include "absl/status/statusor.h"

#include "ipc/unique_fd.h"

namespace baton::ipc {

// A non-blocking, O_CLOEXEC eventfd that is not signalled.
absl::StatusOr<UniqueFd> CreateEventFd();

// Makes `fd` readable. One syscall; never waits, and cannot fail in a way that
// loses the wake-up: a full counter is readable already.
void SignalEventFd(int fd);

// Makes `fd` unreadable again. True when it had been signalled.
bool DrainEventFd(int fd);

}  // namespace baton::ipc

#endif  // BATON_IPC_EVENTFD_H_

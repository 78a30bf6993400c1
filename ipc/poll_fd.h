// Waiting for one descriptor, with a bound.
#ifndef BATON_IPC_POLL_FD_H_
#define BATON_IPC_POLL_FD_H_

#include "absl/time/time.h"

namespace baton::ipc {

// Waits until one of `events` (POLLIN, POLLOUT) or a hang-up or error holds for
// `fd`. False on timeout. Goes on after signals; the timeout is for the whole.
// absl::InfiniteDuration() waits for good, zero or less only looks.
bool PollFd(int fd, short events, absl::Duration timeout);

}  // namespace baton::ipc

#endif  // BATON_IPC_POLL_FD_H_

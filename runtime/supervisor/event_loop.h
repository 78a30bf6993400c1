// Waits for descriptors and a deadline, and calls who asked.
//
// Thread safety: belongs to one thread; callbacks run on it. Level-triggered:
// a callback that leaves something unread is called again.
#ifndef BATON_RUNTIME_SUPERVISOR_EVENT_LOOP_H_
#define BATON_RUNTIME_SUPERVISOR_EVENT_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/unique_fd.h"

namespace baton::runtime {

class EventLoop {
 public:
  using Callback = std::function<void()>;

  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();

  // Calls `callback` whenever `fd` is readable, has hung up or is in error.
  // The loop does not own `fd`: Forget it before it is closed.
  absl::Status Watch(int fd, Callback callback);
  // Whether its callback is also called whenever `fd` is writable; at first not.
  // No effect on what is not watched.
  void WatchWritable(int fd, bool on);
  // Its callback is not called again, not even for what was ready already. Safe
  // within any callback, its own included; no effect on what is not watched.
  void Forget(int fd);

  // Waits until something is ready or `deadline_ns` (CLOCK_MONOTONIC; 0: no
  // deadline), and runs the callbacks of what is ready.
  absl::Status RunOnce(int64_t deadline_ns);

 private:
  explicit EventLoop(ipc::UniqueFd epoll) : epoll_(std::move(epoll)) {}

  ipc::UniqueFd epoll_;
  // A number is never used twice, so an event of a forgotten descriptor cannot
  // be taken for one of a new descriptor with the same number.
  uint64_t last_token_ = 0;
  std::map<int, uint64_t> tokens_;
  std::map<uint64_t, std::shared_ptr<Callback>> callbacks_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_EVENT_LOOP_H_

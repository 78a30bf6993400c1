#include "runtime/supervisor/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/futex.h"

namespace baton::runtime {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kLongestWaitMs = 60'000;

int WaitMs(int64_t deadline_ns) {
  if (deadline_ns == 0) return -1;
  const int64_t left = deadline_ns - ipc::MonotonicNs();
  if (left <= 0) return 0;
  return static_cast<int>(std::min((left + kNsPerMs - 1) / kNsPerMs, kLongestWaitMs));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  ipc::UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return absl::ErrnoToStatus(errno, "cannot make an epoll descriptor");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll)));
}

absl::Status EventLoop::Watch(int fd, Callback callback) {
  Forget(fd);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = ++last_token_;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot watch descriptor ", fd));
  }
  tokens_[fd] = last_token_;
  callbacks_[last_token_] = std::make_shared<Callback>(std::move(callback));
  return absl::OkStatus();
}

void EventLoop::WatchWritable(int fd, bool on) {
  const auto token = tokens_.find(fd);
  if (token == tokens_.end()) return;
  epoll_event event{};
  event.events = on ? uint32_t{EPOLLIN | EPOLLOUT} : uint32_t{EPOLLIN};
  event.data.u64 = token->second;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::Forget(int fd) {
  const auto token = tokens_.find(fd);
  if (token == tokens_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  callbacks_.erase(token->second);
  tokens_.erase(token);
}

absl::Status EventLoop::RunOnce(int64_t deadline_ns) {
  std::array<epoll_event, 64> events;
  const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 WaitMs(deadline_ns));
  if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "cannot wait for events");
  for (int i = 0; i < ready; ++i) {
    const auto found = callbacks_.find(events[static_cast<size_t>(i)].data.u64);
    if (found == callbacks_.end()) continue;
    const std::shared_ptr<Callback> callback = found->second;  // it may forget itself
    (*callback)();
  }
  return absl::OkStatus();
}

}  // namespace baton::runtime

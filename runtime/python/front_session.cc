#include "runtime/python/front_session.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::python {

namespace py = pybind11;

namespace {

// For a request's header and description, beside its tensors.
constexpr uint64_t kSpareBytes = 64 << 10;

// An arena for a request of so many bytes, and for somewhat larger ones.
uint64_t ArenaFor(uint64_t request_bytes) {
  const uint64_t needed = request_bytes + kSpareBytes;
  const uint64_t step = std::max<uint64_t>(std::bit_floor(needed) / 4, 1 << 20);
  return (needed + step - 1) / step * step;
}

}  // namespace

absl::StatusOr<std::shared_ptr<FrontSession>> FrontSession::Attach(const std::string& name,
                                                                   const Options& options) {
  absl::StatusOr<std::unique_ptr<Front>> front = absl::UnknownError("");
  {
    const py::gil_scoped_release release;
    front = Front::Attach(name, options.front);
  }
  if (!front.ok()) return front.status();
  return std::make_shared<FrontSession>(*std::move(front), options);
}

FrontSession::FrontSession(std::unique_ptr<Front> front, const Options& options)
    : options_(options), front_(std::move(front)), name_(front_->name()) {
  uint32_t index = 0;
  for (const Method& method : front_->methods()) methods_.emplace_back(index++, method);
}

FrontSession::~FrontSession() { Close(); }

absl::Status FrontSession::CheckUsable() const {
  if (fork_guard_.forked()) {
    return absl::FailedPreconditionError(
        absl::StrCat("this process is a fork of the one that attached to '", name_,
                     "', and a front cannot be shared: attach again here"));
  }
  if (front_ == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("this front of '", name_, "' was closed: attach again"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<SharedChannel>> FrontSession::Take(uint64_t request_bytes) {
  if (absl::Status usable = CheckUsable(); !usable.ok()) return usable;
  // The one that was used last, whose lines are warm, first.
  for (size_t i = idle_.size(); i-- > 0;) {
    if (idle_[i]->options().request_arena_bytes < request_bytes + kSpareBytes &&
        idle_[i]->options().request_arena_bytes < options_.max_arena_bytes) {
      continue;
    }
    std::shared_ptr<SharedChannel> taken = std::move(idle_[i]);
    idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(i));
    return taken;
  }
  if (!idle_.empty()) idle_.erase(idle_.begin());  // too small: the new one takes its place
  return Open(request_bytes);
}

void FrontSession::Return(std::shared_ptr<SharedChannel> channel) {
  if (front_ != nullptr) idle_.push_back(std::move(channel));
}

absl::StatusOr<std::shared_ptr<SharedChannel>> FrontSession::Open(uint64_t request_bytes) {
  if (absl::Status usable = CheckUsable(); !usable.ok()) return usable;
  std::erase_if(alive_, [](const auto& channel) { return channel.expired(); });
  if (alive_.size() >= options_.max_channels) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "this front has ", alive_.size(),
        " channels, in use or kept by results that are views of "
        "shared memory: let results go, copy those that are to be kept, or attach with more "
        "max_channels"));
  }
  ChannelOptions options = options_.channel;
  options.event_fd = true;  // costs a descriptor, and nothing where it is not armed
  if (request_bytes + kSpareBytes > options.request_arena_bytes) {
    options.request_arena_bytes = std::max(
        options.request_arena_bytes, std::min(options_.max_arena_bytes, ArenaFor(request_bytes)));
  }
  absl::StatusOr<Channel> channel = absl::UnknownError("");
  const std::shared_ptr<Front> front = front_;  // Close may come meanwhile
  {
    const py::gil_scoped_release release;
    channel = front->OpenChannel(options);
  }
  if (!channel.ok()) return channel.status();
  auto shared = std::make_shared<SharedChannel>(*std::move(channel), options);
  alive_.push_back(shared);
  return shared;
}

void FrontSession::Close() {
  std::vector<std::shared_ptr<SharedChannel>> idle = std::move(idle_);
  idle_.clear();
  std::shared_ptr<Front> front = std::move(front_);
  front_ = nullptr;
  if (fork_guard_.forked()) {
    // The parent's; nothing that other threads of it may have locked is touched.
    static_cast<void>(new auto(std::move(idle)));
    static_cast<void>(new auto(std::move(front)));
    return;
  }
  if (front == nullptr) return;
  // The front's thread is waited for.
  const py::gil_scoped_release release;
  idle.clear();
  front.reset();
}

}  // namespace baton::python

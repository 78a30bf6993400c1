#include "runtime/python/shared_channel.h"

#include <algorithm>
#include <thread>
#include <utility>

namespace baton::python {
namespace {

// Below what a channel has room for, so that others may plan on it too.
constexpr size_t kMaxKnownPlans = 192;

}  // namespace

SharedChannel::SharedChannel(Channel channel, const ChannelOptions& options)
    : options_(options), channel_(std::move(channel)) {}

SharedChannel::~SharedChannel() {
  if (!fork_guard_.forked()) LetGo();
}

void SharedChannel::Leave(Left&& left) {
  if (fork_guard_.forked()) {
    // Its parent's: not even the allocator's lists are to be touched.
    static_cast<void>(new Left(std::move(left)));
    return;
  }
  if (TryUse()) {
    { const Left gone = std::move(left); }
    EndUse();
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(left_mutex_);
    left_.push_back(std::move(left));
    any_left_.store(true, std::memory_order_relaxed);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // SYNC: things_left
  if (TryUse()) EndUse();                               // the Use may have ended meanwhile
}

void SharedChannel::BeginUse() {
  // Only ever taken by somebody who lets something go, for less than a microsecond.
  while (!TryUse()) std::this_thread::yield();
}

void SharedChannel::EndUse() {
  do {
    LetGo();
    in_use_.store(false, std::memory_order_release);      // SYNC: channel_used
    std::atomic_thread_fence(std::memory_order_seq_cst);  // SYNC: things_left
    // What was left after LetGo, by somebody who found it in use.
  } while (any_left_.load(std::memory_order_relaxed) && TryUse());
}

void SharedChannel::LetGo() {
  // Relaxed: what is missed here is seen by EndUse, or by whoever left it.
  if (!any_left_.load(std::memory_order_relaxed)) return;
  std::vector<Left> gone;  // ends after the lock
  const std::lock_guard<std::mutex> lock(left_mutex_);
  gone.swap(left_);
  any_left_.store(false, std::memory_order_relaxed);
}

const RequestPlan* SharedChannel::FindPlan(std::span<const int64_t> key) {
  for (size_t i = 0; i < plans_.size(); ++i) {
    if (!std::equal(key.begin(), key.end(), plans_[i].key.begin(), plans_[i].key.end())) continue;
    if (i != 0) std::rotate(plans_.begin(), plans_.begin() + i, plans_.begin() + i + 1);
    return &plans_[0].plan;
  }
  return nullptr;
}

absl::StatusOr<Request> SharedChannel::LoanNew(uint32_t method, std::span<const int64_t> key,
                                               const std::vector<TensorSpec>& inputs) {
  const PlanOptions options{.method = method};
  if (plans_.size() >= kMaxKnownPlans) return channel_.NewRequest(inputs, options);
  absl::StatusOr<RequestPlan> plan = channel_.Plan(inputs, options);
  if (!plan.ok()) return plan.status();
  plans_.insert(plans_.begin(), {{key.begin(), key.end()}, *plan});
  return channel_.Loan(*plan);
}

}  // namespace baton::python

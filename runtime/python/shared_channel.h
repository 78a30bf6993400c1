// A Channel that belongs to Python objects, which end when and where they like.
#ifndef BATON_RUNTIME_PYTHON_SHARED_CHANNEL_H_
#define BATON_RUNTIME_PYTHON_SHARED_CHANNEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/channel.h"
#include "runtime/python/fork_guard.h"

namespace baton::python {

// A channel, and what was let go of it while somebody else was using it.
//
// Thread safety: whoever calls `channel` or `Loan` is inside a Use; there is
// one at a time. Release may be called by any thread and never waits: it lets
// the thing go at once where nobody uses the channel, else leaves it to that
// Use, or to the next one.
//
// Invariants
// 1. A Channel, its Requests and its Responses are touched by one thread at a
//    time: whoever set
//    `in_use_`.
// 2. What was left is let go: each Release, and each end of a Use, looks at
//    the list after it has put something there, or has cleared `in_use_`.
// 3. In a forked child nothing is touched: locks may be held for ever there.
class SharedChannel {
 public:
  SharedChannel(Channel channel, const ChannelOptions& options);
  ~SharedChannel();
  SharedChannel(const SharedChannel&) = delete;
  SharedChannel& operator=(const SharedChannel&) = delete;

  class Use {
   public:
    explicit Use(SharedChannel& shared) : shared_(shared) { shared_.BeginUse(); }
    ~Use() { shared_.EndUse(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    SharedChannel& shared_;
  };

  Channel& channel() { return channel_; }
  const ChannelOptions& options() const { return options_; }
  const ForkGuard& fork_guard() const { return fork_guard_; }

  // A loan for inputs of these shapes. `key` says the same as `inputs` in
  // numbers, method included, so that shapes that were seen before are found
  // without looking at names; `inputs` is called where they were not. Cost:
  // tens of nanoseconds for shapes seen before.
  template <typename MakeInputs>
  absl::StatusOr<Request> Loan(uint32_t method, std::span<const int64_t> key, MakeInputs&& inputs) {
    if (const RequestPlan* plan = FindPlan(key); plan != nullptr) return channel_.Loan(*plan);
    return LoanNew(method, key, inputs());
  }

  void Release(Response&& response) { Leave(std::move(response)); }
  void Release(Request&& request) { Leave(std::move(request)); }

 private:
  using Left = std::variant<Request, Response>;
  struct KnownPlan {
    std::vector<int64_t> key;
    RequestPlan plan;
  };

  void Leave(Left&& left);
  bool TryUse() { return !in_use_.exchange(true, std::memory_order_acquire); }
  void BeginUse();
  void EndUse();
  void LetGo();  // of what was left; whoever set in_use_
  const RequestPlan* FindPlan(std::span<const int64_t> key);
  absl::StatusOr<Request> LoanNew(uint32_t method, std::span<const int64_t> key,
                                  const std::vector<TensorSpec>& inputs);

  const ForkGuard fork_guard_;
  const ChannelOptions options_;
  std::atomic<bool> in_use_{false};  // SYNC: channel_used
  Channel channel_;
  std::vector<KnownPlan> plans_;  // what was used last comes first

  std::mutex left_mutex_;
  std::vector<Left> left_;
  std::atomic<bool> any_left_{false};
};

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_SHARED_CHANNEL_H_

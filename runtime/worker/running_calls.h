// The calls of the model that run now, and what the worker page says of them: the
// supervisor tells from it that a model is stuck.
//
// Thread safety: none; belongs to the serving thread. No allocation unless more
// calls run at once than ever before.
#ifndef BATON_RUNTIME_WORKER_RUNNING_CALLS_H_
#define BATON_RUNTIME_WORKER_RUNNING_CALLS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ipc/pages.h"

namespace baton::runtime {

class RunningCalls {
 public:
  RunningCalls() { calls_.reserve(kUsual); }

  // `call`, whose address is its name, runs from `now_ns` on and is to be answered
  // by `deadline_ns` (0: by no time). Not while it waits for its caller: that is
  // an End and a Begin.
  void Begin(const void* call, int64_t now_ns, int64_t deadline_ns, ipc::WorkerPage& page) {
    calls_.push_back({.call = call, .since_ns = now_ns, .deadline_ns = deadline_ns});
    if (calls_.size() == 1) {
      ShowOldest(page, now_ns, deadline_ns);
    } else {
      Show(page);
    }
  }
  // Nothing where it does not run.
  void End(const void* call, ipc::WorkerPage& page) {
    if (calls_.size() == 1 && calls_.front().call == call) {
      calls_.clear();
      page.busy_since_ns.store(0, std::memory_order_relaxed);
    } else {
      EndOneOfMany(call, page);
    }
  }

 private:
  static constexpr size_t kUsual = 16;
  struct Running {
    const void* call;
    int64_t since_ns;
    int64_t deadline_ns;
  };
  void EndOneOfMany(const void* call, ipc::WorkerPage& page);
  // Says when the oldest began, and the earliest deadline of all: each is the one
  // that is exceeded first.
  void Show(ipc::WorkerPage& page) const;
  static void ShowOldest(ipc::WorkerPage& page, int64_t since_ns, int64_t deadline_ns) {
    // Relaxed: who reads one without the other judges by a call that has just begun or ended.
    page.busy_deadline_ns.store(deadline_ns, std::memory_order_relaxed);
    page.busy_since_ns.store(since_ns, std::memory_order_relaxed);
  }

  std::vector<Running> calls_;  // in the order in which they began
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_RUNNING_CALLS_H_

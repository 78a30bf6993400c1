#include "runtime/worker/running_calls.h"

#include <algorithm>
#include <atomic>

namespace baton::runtime {

void RunningCalls::Begin(const void* call, int64_t now_ns, int64_t deadline_ns,
                         ipc::WorkerPage& page) {
  calls_.push_back({.call = call, .since_ns = now_ns, .deadline_ns = deadline_ns});
  Show(page);
}

void RunningCalls::End(const void* call, ipc::WorkerPage& page) {
  const auto found = std::find_if(calls_.begin(), calls_.end(),
                                  [&](const Running& running) { return running.call == call; });
  if (found == calls_.end()) return;
  calls_.erase(found);
  Show(page);
}

void RunningCalls::Show(ipc::WorkerPage& page) const {
  // Relaxed: who reads one without the other judges by a call that has just begun or ended.
  if (calls_.empty()) {
    page.busy_since_ns.store(0, std::memory_order_relaxed);
    return;
  }
  int64_t earliest_ns = 0;
  for (const Running& running : calls_) {
    if (running.deadline_ns == 0) continue;
    earliest_ns =
        earliest_ns == 0 ? running.deadline_ns : std::min(earliest_ns, running.deadline_ns);
  }
  page.busy_deadline_ns.store(earliest_ns, std::memory_order_relaxed);
  page.busy_since_ns.store(calls_.front().since_ns, std::memory_order_relaxed);
}

}  // namespace baton::runtime

#include "runtime/worker/running_calls.h"

#include <algorithm>

namespace baton::runtime {

void RunningCalls::EndOneOfMany(const void* call, ipc::WorkerPage& page) {
  const auto found = std::find_if(calls_.begin(), calls_.end(),
                                  [&](const Running& running) { return running.call == call; });
  if (found == calls_.end()) return;
  calls_.erase(found);
  Show(page);
}

void RunningCalls::Show(ipc::WorkerPage& page) const {
  int64_t earliest_ns = 0;
  for (const Running& running : calls_) {
    if (running.deadline_ns == 0) continue;
    earliest_ns =
        earliest_ns == 0 ? running.deadline_ns : std::min(earliest_ns, running.deadline_ns);
  }
  ShowOldest(page, calls_.front().since_ns, earliest_ns);
}

}  // namespace baton::runtime

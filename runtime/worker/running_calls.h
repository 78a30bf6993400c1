// The calls of the model that run now, and what the worker page says of them: the
// supervisor tells from it that a model is stuck.
//
// Thread safety: none; belongs to the serving thread. No allocation unless more
// calls run at once than ever before.
#ifndef BATON_RUNTIME_WORKER_RUNNING_CALLS_H_
#define BATON_RUNTIME_WORKER_RUNNING_CALLS_H_

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
  void Begin(const void* call, int64_t now_ns, int64_t deadline_ns, ipc::WorkerPage& page);
  // Nothing where it does not run.
  void End(const void* call, ipc::WorkerPage& page);

 private:
  static constexpr size_t kUsual = 16;
  struct Running {
    const void* call;
    int64_t since_ns;
    int64_t deadline_ns;
  };
  // Says when the oldest began, and the earliest deadline of all: each is the one
  // that is exceeded first.
  void Show(ipc::WorkerPage& page) const;

  std::vector<Running> calls_;  // in the order in which they began
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_RUNNING_CALLS_H_

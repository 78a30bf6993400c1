// What channels ask of whoever serves them.
#ifndef BATON_RUNTIME_WORKER_SERVING_HOST_H_
#define BATON_RUNTIME_WORKER_SERVING_HOST_H_

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

#include "ipc/cycle_clock.h"
#include "runtime/worker/call_threads.h"
#include "runtime/worker/running_calls.h"

namespace baton::runtime {

class ServingHost {
 public:
  virtual ~ServingHost() = default;

  // Serving thread, from within a model's call: waits until `wanted()` holds, and
  // goes on saying that this worker lives. May return for nothing: look again.
  // Commands are applied meanwhile: other channels come and go, this one stays.
  // ABORTED when the worker must end, CANCELLED when the channel has to go.
  // `wanted` looks at memory that the front writes before it wakes the worker
  // (SYNC: worker_sleeps); it is called often.
  virtual absl::Status Await(uint64_t channel, absl::FunctionRef<bool()> wanted) = 0;

  // Any thread: has ReleaseInputs of every channel called soon.
  virtual void InputsReleased() = 0;

  // The following are the serving thread's.
  // Calls of all channels that are under way between two turns: streams, and
  // requests that run on threads of their own.
  size_t active_calls = 0;
  // Those that run in this moment.
  RunningCalls running;
  // What the serving thread reads the time from.
  ipc::CycleClock clock;
  // Where calls run that do not run on the serving thread; nullptr: there are none.
  CallThreads* call_threads = nullptr;
  // As CallThreads::ModelTurn.
  std::unique_lock<std::mutex> ModelTurn() {
    if (call_threads == nullptr) return {};
    return call_threads->ModelTurn();
  }
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SERVING_HOST_H_

// Threads on which calls of the model run while the serving thread goes on.
//
// A call has a thread to itself from its first piece to its last, so that the
// model finds its thread-locals again, and runs there in pieces: the call itself,
// or the start, each response and the end of a stream. Serving thread and call
// take turns, one at a time, at everything that belongs to the call:
//
//   serving thread                        call thread
//   Run(piece)          - call_handed ->  piece() begins
//   back() and asks()  <- call_returned - Ask(), within the piece: waits
//   Answer()            - call_handed ->  Ask() returns
//   back(), no asks()  <- call_returned - piece() has returned
//
// A call that returns wakes the serving thread as a front does
// (SYNC: worker_sleeps), by a descriptor of this process.
//
// Invariants
// 1. While back() is false nothing of the call's is read or written by the serving
//    thread, but for back() itself; while it is true the call's thread waits.
// 2. Unless calls may be concurrent, one piece runs at a time, of all threads and
//    of the serving thread (ModelTurn); one that waits in Ask does not run.
#ifndef BATON_RUNTIME_WORKER_CALL_THREADS_H_
#define BATON_RUNTIME_WORKER_CALL_THREADS_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton::runtime {

class CallThreads;

// Process-private. Thread safety: as each function says.
class CallThread {
 public:
  explicit CallThread(CallThreads& owner) : owner_(owner) {}
  ~CallThread();
  CallThread(const CallThread&) = delete;
  CallThread& operator=(const CallThread&) = delete;

  // Serving thread, while back(): has it run `piece`, which must not throw. About
  // 10 us until it does.
  void Run(absl::AnyInvocable<void()> piece);
  // Serving thread: whether it is the serving thread's turn. A load.
  bool back() const {
    // SYNC: call_returned
    return !away_.load(std::memory_order_acquire);
  }
  // Serving thread, while back(): the piece is not at its end, it waits in Ask.
  bool asks() const { return asks_; }
  // Serving thread, while asks(): it may go on.
  void Answer();

  // From within a piece: gives the turn away, and waits to have it back.
  void Ask();

 private:
  friend class CallThreads;
  absl::Status Begin();
  void Loop();
  void Hand();
  // False: there will be none any more.
  bool AwaitTurn();
  void Return();

  CallThreads& owner_;
  std::atomic<bool> away_{false};
  // Of whoever has the turn.
  absl::AnyInvocable<void()> piece_;
  bool asks_ = false;
  std::unique_lock<std::mutex> model_turn_;  // the call thread's

  std::mutex mutex_;
  std::condition_variable handed_;
  bool turn_ = false;  // guarded by mutex_
  bool stop_ = false;  // likewise
  std::thread thread_;
};

// All of a worker's. Thread safety: the serving thread's, but for what its
// threads do.
class CallThreads {
 public:
  struct Options {
    bool concurrent = false;  // whether calls of the model may run at the same time
    // Those of the serving thread's WorkerSleep: its flag, and a descriptor that it polls.
    const std::atomic<uint32_t>* sleeping = nullptr;
    int wake_fd = -1;
    std::function<void()> prepare = {};  // run first on each thread; may be empty
  };
  explicit CallThreads(Options options) : options_(std::move(options)) {}
  // Waits for every thread to end: no piece may be under way.
  ~CallThreads();
  CallThreads(const CallThreads&) = delete;
  CallThreads& operator=(const CallThreads&) = delete;

  bool concurrent() const { return options_.concurrent; }

  // A thread that has no call, for one call. Started when it is first needed, kept
  // from then on. RESOURCE_EXHAUSTED where the system gives none.
  absl::StatusOr<CallThread*> Take();
  // That call is over: the thread is back, and asks for nothing.
  void GiveBack(CallThread& thread);

  // Held by the serving thread around what it calls of the model itself. Waits for
  // a piece that runs, where pieces run one at a time. Free while no call has a thread.
  std::unique_lock<std::mutex> ModelTurn() {
    if (concurrent() || taken_ == 0) return {};
    return std::unique_lock(model_);
  }

 private:
  friend class CallThread;
  const Options options_;
  std::mutex model_;  // held where pieces run, unless they may be concurrent
  std::vector<std::unique_ptr<CallThread>> threads_;
  std::vector<CallThread*> free_;
  size_t taken_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CALL_THREADS_H_

// How a worker goes to sleep, and how fronts wake it: one flag and one
// eventfd for all its channels.
//
// Address-space scope: the flag lies in the worker page, in shared memory; the
// eventfd is one kernel object that every process holds a descriptor of.
//
// SYNC: worker_sleeps
//   front                             worker
//   publish the entry (release)       sleeping = 1
//   fence (seq_cst)                   fence (seq_cst)
//   read sleeping; 1: write eventfd   look at every ring; empty: poll(eventfd)
//
// The fences forbid that both read the old value, so either the worker sees
// the entry or the front sees the flag; the eventfd counts, so a write before
// the poll is not lost. tests/model/worker_sleep.pml proves it, and that each
// fence is needed.
//
// A worker that was killed may leave the flag up (a front then writes the
// eventfd for nothing) or a wake consumed and not acted on: whoever serves
// next clears the flag and looks at every ring once.
#ifndef BATON_IPC_WORKER_SLEEP_H_
#define BATON_IPC_WORKER_SLEEP_H_

#include <atomic>
#include <cstdint>

#include "ipc/eventfd.h"

namespace baton::ipc {

// Front: called after an entry was published. One fence and one load where the
// worker is awake, a syscall where it sleeps. Any thread.
inline void WakeWorkerIfSleeping(const std::atomic<uint32_t>& sleeping, int doorbell_fd) {
  // SYNC: worker_sleeps
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Relaxed: the fence orders it, and it guards no data.
  if (sleeping.load(std::memory_order_relaxed) != 0) SignalEventFd(doorbell_fd);
}

// Worker: the sleeping side. Belongs to the serving thread.
class WorkerSleep {
 public:
  // Does not own the descriptors. `command_fd` is an eventfd of this process,
  // written after every command.
  WorkerSleep(std::atomic<uint32_t>& sleeping, int doorbell_fd, int command_fd)
      : sleeping_(sleeping), doorbell_fd_(doorbell_fd), command_fd_(command_fd) {}

  // Sleeps until somebody wakes it or `timeout_ms` have passed, unless
  // `has_work()` is already true. May return for nothing: look again.
  template <typename HasWork>
  void Sleep(HasWork&& has_work, int timeout_ms) {
    SleepFor(has_work, timeout_ms < 0 ? -1 : int64_t{timeout_ms} * 1'000'000);
  }
  // The same; a negative `timeout_ns` is for ever.
  template <typename HasWork>
  void SleepFor(HasWork&& has_work, int64_t timeout_ns) {
    SleepAndBeat(has_work, timeout_ns, /*times=*/1, [] {});
  }

  // As Sleep, for `times` times `beat_ns` at most, after each of which `beat()` is called. The flag
  // stays up all the while, so that no ring has to be looked at again to sleep on.
  template <typename HasWork, typename Beat>
  void SleepAndBeat(HasWork&& has_work, int64_t beat_ns, int times, Beat&& beat) {
    // SYNC: worker_sleeps. Relaxed: ordered by the fence that follows.
    sleeping_.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (int i = 0; i < times && (i > 0 || !has_work()); ++i) {
      if (Poll(beat_ns, /*doorbell=*/true)) break;
      beat();
    }
    // Relaxed: seen late, it costs a front one needless wake.
    sleeping_.store(0, std::memory_order_relaxed);
  }

  // As Sleep, for a worker that may not serve: deaf to the doorbell, which
  // belongs to whoever serves.
  void SleepForCommand(int timeout_ms) {
    Poll(timeout_ms < 0 ? -1 : int64_t{timeout_ms} * 1'000'000, /*doorbell=*/false);
  }

 private:
  // Whether it was woken, if only by a signal.
  bool Poll(int64_t timeout_ns, bool doorbell);

  std::atomic<uint32_t>& sleeping_;
  int doorbell_fd_;
  int command_fd_;
};

}  // namespace baton::ipc

#endif  // BATON_IPC_WORKER_SLEEP_H_

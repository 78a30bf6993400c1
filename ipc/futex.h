// Waiting on words in shared memory.
//
// Address-space scope: `shared` words may be in memory that several processes
// map (non-private futex operations; a read-only mapping will do for waiting
// and for waking). std::atomic::wait, absl::Mutex and kj's mutex are private
// to a process and are never used on such words.
//
// Thread safety: any thread. Each call is one system call.
#ifndef BATON_IPC_FUTEX_H_
#define BATON_IPC_FUTEX_H_

#include <atomic>
#include <cstdint>
#include <span>

namespace baton::ipc {

struct FutexWord {
  const std::atomic<uint32_t>* word = nullptr;
  uint32_t expected = 0;
};

enum class FutexResult { kWoken, kChanged, kTimedOut };

// Sleeps until one of `words` (at most 8) is woken, or no longer has its
// expected value, or CLOCK_MONOTONIC reaches `deadline_ns`. May return
// kWoken for no reason. On kernels without futex_waitv it waits on the first
// word in slices of 10 ms, so that a change of the others is still seen.
FutexResult FutexWaitAny(std::span<const FutexWord> words, int64_t deadline_ns);

// Wakes every waiter of `word`.
void FutexWakeAll(const std::atomic<uint32_t>* word);

// CLOCK_MONOTONIC now (no system call: vdso).
int64_t MonotonicNs();

}  // namespace baton::ipc

#endif  // BATON_IPC_FUTEX_H_

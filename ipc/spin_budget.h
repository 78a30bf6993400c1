// How long to spin before going to sleep, learned from how long the last
// waits took.
//
// Spinning saves the two context switches of a sleep (tens of microseconds)
// and costs a core for as long as it lasts, so it pays only where the wait is
// usually shorter than the switches. Where both sides share one CPU it never
// does: whoever spins keeps the other from running.
//
// Thread safety: none; one object a waiting thread. No allocation, no syscall
// after construction.
#ifndef BATON_IPC_SPIN_BUDGET_H_
#define BATON_IPC_SPIN_BUDGET_H_

#include <cstdint>

#include "ipc/futex.h"

namespace baton::ipc {

class SpinBudget {
 public:
  // The longest spin: about what one sleep and wake cost.
  static constexpr int64_t kDefaultMaxNs = 50'000;

  // Spins at most `max_ns` a wait; 0 never spins. Starts out hopeful: with
  // the whole budget.
  explicit SpinBudget(int64_t max_ns = kDefaultMaxNs);

  // As above, but 0 when this thread may run on one CPU only
  // (sched_getaffinity).
  static SpinBudget ForThisThread(int64_t max_ns = kDefaultMaxNs);

  // Nanoseconds to spin in the wait that begins now.
  int64_t budget_ns() const { return budget_ns_; }

  // What was waited for came after `waited_ns`; `slept` says whether the wait
  // ended in a sleep, whose wake-up is then not counted as waiting.
  void Observe(int64_t waited_ns, bool slept);

 private:
  int64_t max_ns_;
  int64_t mean_ns_ = 0;  // moving average of waits, each cut off at kCutOff * max_ns_
  int64_t budget_ns_;
};

// One pause of a spinning loop: tells the core to let its sibling run.
inline void SpinPause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

struct SpinOutcome {
  bool came = false;
  int64_t waited_ns = 0;  // to within a microsecond or so; for SpinBudget::Observe
};

// Spins until `ready()` or until `budget_ns` after `start_ns` (CLOCK_MONOTONIC).
// Reads the clock seldom, and not at all once `ready()` holds. Pauses after each look: who looks
// without one takes the line that it waits for away between its writer's stores.
template <typename Ready>
SpinOutcome SpinUntil(Ready&& ready, int64_t start_ns, int64_t budget_ns) {
  constexpr int kPausesPerClock = 16;
  int64_t waited_ns = 0;
  do {
    for (int pause = 0; pause < kPausesPerClock; ++pause) {
      if (ready()) return {true, waited_ns};
      // No pause where no spinning is wanted: one look has to do.
      if (budget_ns <= 0) return {false, 0};
      SpinPause();
    }
    waited_ns = MonotonicNs() - start_ns;
  } while (waited_ns < budget_ns);
  return {false, waited_ns};
}

}  // namespace baton::ipc

#endif  // BATON_IPC_SPIN_BUDGET_H_

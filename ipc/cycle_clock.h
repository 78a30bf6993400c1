// CLOCK_MONOTONIC, read from the CPU's time-stamp counter between looks at the kernel's clock.
//
// Why: a request's way there and back is a few hundred nanoseconds and needs three readings; the
// kernel's costs 20 to 25 ns each, the counter's 8.
//
// How: every kWindowNs the counter is set against the kernel's clock anew, and in between its
// readings are scaled by the rate that the last window had. Only where the kernel's own clock is
// that counter (then it is synchronised over all CPUs and does not stop), and the rate is what it
// was; anywhere else each reading is the kernel's.
//
// Within a microsecond of CLOCK_MONOTONIC, so that times of several processes can be compared.
// Where a window begins it may step back by as much: who subtracts two readings has to allow for
// less than nothing. A virtual machine that is stopped, or moved, may be off by one window once.
//
// Thread safety: none; one object a thread. No allocation, no system call after the first object of
// a process (vdso).
#ifndef BATON_IPC_CYCLE_CLOCK_H_
#define BATON_IPC_CYCLE_CLOCK_H_

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace baton::ipc {

class CycleClock {
 public:
  static constexpr int64_t kWindowNs = 1'000'000;

  CycleClock() : CycleClock(KernelUsesCounter()) {}
  // `use_counter`: false reads the kernel's clock each time.
  explicit CycleClock(bool use_counter) : usable_(use_counter) {}

  // CLOCK_MONOTONIC now, in nanoseconds.
  int64_t NowNs() {
#if defined(__x86_64__)
    const uint64_t passed = __rdtsc() - base_ticks_;
    if (passed < window_ticks_) {
      return base_ns_ + static_cast<int64_t>((passed * ns_per_tick_) >> kRateBits);
    }
#endif
    return Reset();
  }

 private:
  // Of the rate, a fixed-point number: a window has fewer than 2^24 ticks, and 256 ns a tick would
  // fit.
  static constexpr int kRateBits = 32;

  // Whether the kernel keeps its time by the counter: what
  // /sys/devices/system/clocksource/clocksource0/current_clocksource says.
  static bool KernelUsesCounter();

  // Reads the kernel's clock, and begins a window there.
  int64_t Reset();
  // Begins it at this pair of readings.
  void BeginWindow(uint64_t ticks, int64_t ns);

  uint64_t base_ticks_ = 0;
  int64_t base_ns_ = 0;
  uint64_t window_ticks_ = 0;  // 0: the counter is not to be used in this window
  uint64_t ns_per_tick_ = 0;
  bool usable_;
};

}  // namespace baton::ipc

#endif  // BATON_IPC_CYCLE_CLOCK_H_

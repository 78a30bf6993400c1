#include "ipc/cycle_clock.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "ipc/futex.h"

namespace baton::ipc {
namespace {

constexpr char kClockSource[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
// Two readings of the counter around one of the kernel's clock are a pair where they are no further
// apart: longer, and something came between them.
constexpr uint64_t kPairTicks = 1'000;
constexpr int kPairTries = 4;
// A rate is believed that differs from the last one by no more than 1 / kRateTolerance.
constexpr uint64_t kRateTolerance = 1'000;
// What a rate is learned from has to be long enough to tell, and short enough to be of now.
constexpr int64_t kShortestNs = CycleClock::kWindowNs / 2;
constexpr int64_t kLongestNs = 1'000'000'000;

}  // namespace

bool CycleClock::KernelUsesCounter() {
#if defined(__x86_64__)
  static const bool uses = [] {
    std::ifstream file(kClockSource);
    std::string name;
    return static_cast<bool>(file >> name) && name == "tsc";
  }();
  return uses;
#else
  return false;
#endif
}

int64_t CycleClock::Reset() {
#if defined(__x86_64__)
  if (usable_) {
    for (int i = 0; i < kPairTries; ++i) {
      const uint64_t before = __rdtsc();
      const int64_t ns = MonotonicNs();
      const uint64_t after = __rdtsc();
      if (after - before > kPairTicks) continue;
      BeginWindow(before + (after - before) / 2, ns);
      return ns;
    }
    usable_ = false;  // reading it is slow: it is emulated, and would gain nothing
  }
#endif
  window_ticks_ = 0;
  return MonotonicNs();
}

void CycleClock::BeginWindow(uint64_t ticks, int64_t ns) {
  const uint64_t passed_ticks = ticks - base_ticks_;
  const int64_t passed_ns = ns - base_ns_;
  if (passed_ns < kShortestNs && base_ns_ != 0) {
    window_ticks_ = 0;  // this reading is the kernel's, and so are the next ones, until it tells
    return;
  }
  window_ticks_ = 0;
  if (passed_ns <= kLongestNs && passed_ticks >= static_cast<uint64_t>(kShortestNs) / 256) {
    const uint64_t rate = (static_cast<uint64_t>(passed_ns) << kRateBits) / passed_ticks;
    const uint64_t difference = std::max(rate, ns_per_tick_) - std::min(rate, ns_per_tick_);
    // 0: the counter has been set, by whoever moved the machine.
    const bool as_before = rate > 0 && difference <= rate / kRateTolerance;
    ns_per_tick_ = rate;
    if (as_before) window_ticks_ = (static_cast<uint64_t>(kWindowNs) << kRateBits) / rate;
  }
  base_ticks_ = ticks;
  base_ns_ = ns;
}

}  // namespace baton::ipc

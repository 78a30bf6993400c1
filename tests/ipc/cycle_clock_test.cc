#include "ipc/cycle_clock.h"

#include <cstdint>

#include "gtest/gtest.h"

#include "ipc/futex.h"

namespace baton::ipc {
namespace {

// What it may be off by: one part in a thousand of a window.
constexpr int64_t kOffNs = CycleClock::kWindowNs / 1'000;

// Between two readings of the kernel's clock, for as long as a few windows.
void ExpectTheTime(CycleClock& clock) {
  const int64_t end = MonotonicNs() + 10 * CycleClock::kWindowNs;
  for (int64_t before = 0; before < end;) {
    before = MonotonicNs();
    const int64_t now = clock.NowNs();
    const int64_t after = MonotonicNs();
    ASSERT_GE(now, before - kOffNs);
    ASSERT_LE(now, after + kOffNs);
  }
}

TEST(CycleClockTest, TellsTheTime) {
  CycleClock clock;
  ExpectTheTime(clock);
}

TEST(CycleClockTest, TellsTheTimeWithoutTheCounter) {
  CycleClock clock(/*use_counter=*/false);
  ExpectTheTime(clock);
}

// Whoever asks for the counter gets it where there is one, or the kernel's time.
TEST(CycleClockTest, TellsTheTimeByTheCounter) {
  CycleClock clock(/*use_counter=*/true);
  ExpectTheTime(clock);
}

}  // namespace
}  // namespace baton::ipc

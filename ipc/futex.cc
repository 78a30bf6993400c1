#include "ipc/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>

namespace baton::ipc {
namespace {

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

// The kernel's struct futex_waitv; older headers lack it.
struct WaitEntry {
  uint64_t value;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};
constexpr uint32_t kFutex32Bits = 2;  // FUTEX_32; without FUTEX_PRIVATE_FLAG: shared
constexpr size_t kMaxWords = 8;
constexpr int64_t kSliceNs = 10'000'000;

timespec ToTimespec(int64_t ns) {
  ns = std::max<int64_t>(ns, 0);
  return {.tv_sec = static_cast<time_t>(ns / 1'000'000'000),
          .tv_nsec = static_cast<long>(ns % 1'000'000'000)};
}

FutexResult WaitOnFirst(const FutexWord& first, int64_t deadline_ns) {
  const int64_t now = MonotonicNs();
  if (now >= deadline_ns) return FutexResult::kTimedOut;
  const timespec until = ToTimespec(std::min(deadline_ns, now + kSliceNs));
  // FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time.
  const long rc = ::syscall(SYS_futex, first.word, FUTEX_WAIT_BITSET, first.expected, &until,
                            nullptr, FUTEX_BITSET_MATCH_ANY);
  if (rc == 0 || errno == EINTR) return FutexResult::kWoken;
  if (errno == EAGAIN) return FutexResult::kChanged;
  return MonotonicNs() >= deadline_ns ? FutexResult::kTimedOut : FutexResult::kWoken;
}

}  // namespace

FutexResult FutexWaitAny(std::span<const FutexWord> words, int64_t deadline_ns) {
  WaitEntry entries[kMaxWords];
  const size_t count = std::min(words.size(), kMaxWords);
  for (size_t i = 0; i < count; ++i) {
    entries[i] = {.value = words[i].expected,
                  .address = reinterpret_cast<uint64_t>(words[i].word),
                  .flags = kFutex32Bits,
                  .reserved = 0};
  }
  const timespec until = ToTimespec(deadline_ns);
  const long rc = ::syscall(SYS_futex_waitv, entries, count, 0, &until, CLOCK_MONOTONIC);
  if (rc >= 0) return FutexResult::kWoken;
  switch (errno) {
    case EAGAIN:
      return FutexResult::kChanged;
    case ETIMEDOUT:
      return FutexResult::kTimedOut;
    case EINTR:
      return FutexResult::kWoken;
    default:  // ENOSYS before Linux 5.16, EPERM under some seccomp filters
      return WaitOnFirst(words[0], deadline_ns);
  }
}

void FutexWakeAll(const std::atomic<uint32_t>* word) {
  ::syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

int64_t MonotonicNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace baton::ipc

#include "bench/peers/futex_wake.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "bench/peers/peer_end.h"
#include "bench/sleeping.h"

namespace baton::bench {
namespace {

constexpr char kName[] = "FutexWake";

// SYNC: end_woken, front_woken
void Wake(std::atomic<uint32_t>& word) {
  word.fetch_add(1, std::memory_order_release);
  ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// Until it is no longer `expected`; false after a second.
bool SleepOn(const std::atomic<uint32_t>& word, uint32_t expected) {
  const timespec second{.tv_sec = 1, .tv_nsec = 0};
  while (word.load(std::memory_order_acquire) == expected) {
    const long woken =
        ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &second, nullptr, 0);  // NOLINT: its type
    if (woken != 0 && errno == ETIMEDOUT) return word.load() != expected;
  }
  return true;
}

class FutexWake final : public TimedSubject {
 public:
  explicit FutexWake(std::unique_ptr<PeerEnd> end) : end_(std::move(end)), watch_(end_->pid()) {}

 protected:
  absl::Status Between() override { return watch_.Await(); }
  absl::Status Once() override {
    EndPage& page = end_->page();
    const uint32_t before = page.wake_front.load(std::memory_order_relaxed);
    Wake(page.wake_end);
    while (!SleepOn(page.wake_front, before)) {
      if (!end_->alive()) return end_->Gone();
    }
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<PeerEnd> end_;
  const SleepWatch watch_;
};

absl::Status Serve(EndSide& side) {
  EndPage& page = side.page();
  side.Ready();
  for (uint32_t seen = 0;; ++seen) {
    while (!SleepOn(page.wake_end, seen)) {
    }
    Wake(page.wake_front);
  }
}

}  // namespace

PeerKind FutexWakeKind() { return {.name = kName, .serve = Serve}; }

absl::StatusOr<std::unique_ptr<Subject>> MakeFutexWake(int cpu) {
  absl::StatusOr<std::unique_ptr<PeerEnd>> end = PeerEnd::Start({.kind = kName, .cpu = cpu});
  if (!end.ok()) return end.status();
  return std::make_unique<FutexWake>(*std::move(end));
}

}  // namespace baton::bench

// SYNC: worker_sleeps, for real. The proof over all interleavings is the model
// in tests/model/worker_sleep.pml.
#include "ipc/worker_sleep.h"

#include <poll.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/eventfd.h"
#include "ipc/futex.h"

namespace baton::ipc {
namespace {

constexpr int kForever = -1;

struct Bench {
  UniqueFd doorbell = *CreateEventFd();
  UniqueFd command = *CreateEventFd();
  std::atomic<uint32_t> sleeping{0};
  WorkerSleep sleep{sleeping, doorbell.get(), command.get()};
};

// R3: with no spinning and no timeout, a lost wake-up hangs this test. Two
// fronts hand over one entry at a time, so that the worker goes to sleep
// around every single one.
TEST(WorkerSleepTest, R3NoWakeUpIsLost) {
  constexpr uint64_t kEntries = 20'000;
  constexpr size_t kFronts = 2;
  struct alignas(128) Ring {
    std::atomic<uint64_t> published{0};
    std::atomic<uint64_t> taken{0};
  };
  Bench bench;
  std::array<Ring, kFronts> rings;

  std::vector<std::thread> fronts;
  for (Ring& ring : rings) {
    fronts.emplace_back([&bench, &ring] {
      for (uint64_t entry = 1; entry <= kEntries; ++entry) {
        ring.published.store(entry, std::memory_order_release);
        WakeWorkerIfSleeping(bench.sleeping, bench.doorbell.get());
        while (ring.taken.load(std::memory_order_acquire) != entry) std::this_thread::yield();
      }
    });
  }
  const auto has_work = [&] {
    for (Ring& ring : rings) {
      if (ring.published.load(std::memory_order_acquire) !=
          ring.taken.load(std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  };
  for (uint64_t left = kFronts * kEntries; left > 0;) {
    bool took = false;
    for (Ring& ring : rings) {
      const uint64_t published = ring.published.load(std::memory_order_acquire);
      const uint64_t taken = ring.taken.load(std::memory_order_relaxed);
      if (published == taken) continue;
      left -= published - taken;
      ring.taken.store(published, std::memory_order_release);
      took = true;
    }
    if (!took && left > 0) bench.sleep.Sleep(has_work, kForever);
  }
  for (std::thread& front : fronts) front.join();
}

TEST(WorkerSleepTest, DoesNotSleepOnWork) {
  Bench bench;
  uint32_t flag_seen = 0;
  bench.sleep.Sleep(
      [&] {
        flag_seen = bench.sleeping.load();
        return true;
      },
      kForever);
  EXPECT_EQ(flag_seen, 1u) << "looked for work before saying that it sleeps";
  EXPECT_EQ(bench.sleeping.load(), 0u);
}

TEST(WorkerSleepTest, AnAwakeWorkerCostsNoSyscall) {
  Bench bench;
  WakeWorkerIfSleeping(bench.sleeping, bench.doorbell.get());
  EXPECT_FALSE(DrainEventFd(bench.doorbell.get()));
  bench.sleeping.store(1);
  WakeWorkerIfSleeping(bench.sleeping, bench.doorbell.get());
  EXPECT_TRUE(DrainEventFd(bench.doorbell.get()));
}

TEST(WorkerSleepTest, WakesAtTheTimeout) {
  Bench bench;
  bench.sleep.Sleep([] { return false; }, 1);
  EXPECT_EQ(bench.sleeping.load(), 0u);
}

TEST(WorkerSleepTest, SleepsForLessThanAMillisecond) {
  Bench bench;
  const int64_t start = MonotonicNs();
  bench.sleep.SleepFor([] { return false; }, 300'000);
  EXPECT_GE(MonotonicNs() - start, 300'000);
  EXPECT_EQ(bench.sleeping.load(), 0u);
  SignalEventFd(bench.doorbell.get());
  bench.sleep.SleepFor([] { return false; }, kForever);
  EXPECT_FALSE(DrainEventFd(bench.doorbell.get()));
}

TEST(WorkerSleepTest, BeatsInItsSleepAndLooksAtTheRingsOnce) {
  Bench bench;
  int looks = 0;
  int beats = 0;
  const auto look = [&] { return ++looks > 1; };
  const auto beat = [&] {
    EXPECT_EQ(bench.sleeping.load(), 1u) << "a front has to see that it sleeps";
    ++beats;
  };
  bench.sleep.SleepAndBeat(look, 1'000'000, 3, beat);
  EXPECT_EQ(beats, 3);
  EXPECT_EQ(looks, 1);
  EXPECT_EQ(bench.sleeping.load(), 0u);
}

TEST(WorkerSleepTest, WakesFromASleepInWhichItBeats) {
  Bench bench;
  // Between two beats: what a front does that sees the flag.
  const auto ring = [&] { WakeWorkerIfSleeping(bench.sleeping, bench.doorbell.get()); };
  int beats = 0;
  bench.sleep.SleepAndBeat([] { return false; }, 1'000'000, 1000,
                           [&] {
                             if (++beats == 2) ring();
                           });
  EXPECT_EQ(beats, 2);
  EXPECT_FALSE(DrainEventFd(bench.doorbell.get()));
  // What is there already is not slept on.
  bench.sleep.SleepAndBeat([] { return true; }, 3'600'000'000'000, 1, [&] { ++beats; });
  EXPECT_EQ(beats, 2);
}

TEST(WorkerSleepTest, ACommandWakesAndIsDrained) {
  Bench bench;
  SignalEventFd(bench.command.get());
  bench.sleep.Sleep([] { return false; }, kForever);
  EXPECT_FALSE(DrainEventFd(bench.command.get()));
}

TEST(WorkerSleepTest, WhoMayNotServeLeavesTheDoorbellAlone) {
  Bench bench;
  SignalEventFd(bench.doorbell.get());
  bench.sleep.SleepForCommand(1);
  EXPECT_EQ(bench.sleeping.load(), 0u);
  EXPECT_TRUE(DrainEventFd(bench.doorbell.get())) << "took a wake-up that was another's";
}

}  // namespace
}  // namespace baton::ipc

#include "runtime/front/device_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <semaphore>
#include <thread>
#include <utility>
#include <vector>

namespace baton::internal {
namespace {

TEST(DeviceThread, JobsRunInOrderOffTheCallersThread) {
  std::counting_semaphore<8> done(0);
  DeviceThread thread([&] { done.release(); });
  std::vector<int> ran;
  std::thread::id where;
  for (int i = 0; i < 3; ++i) {
    thread.Run(
        [&, i] {
          ran.push_back(i);
          where = std::this_thread::get_id();
        },
        [] {});
  }
  for (int i = 0; i < 3; ++i) done.acquire();
  EXPECT_EQ(ran, (std::vector{0, 1, 2}));
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(DeviceThread, WhatIsDoneIsTakenOnTheTakersThread) {
  std::binary_semaphore done(0);
  DeviceThread thread([&] { done.release(); });
  std::thread::id where;
  thread.Run([] {}, [&] { where = std::this_thread::get_id(); });
  done.acquire();
  const std::vector<DeviceThread::Job> jobs = thread.TakeDone();
  ASSERT_EQ(jobs.size(), 1u);
  jobs[0]();
  EXPECT_EQ(where, std::this_thread::get_id());
  EXPECT_TRUE(thread.TakeDone().empty());
}

// Says on which thread it goes.
struct Held {
  Held(std::thread::id& to, std::counting_semaphore<4>& went) : where(to), gone(went) {}
  ~Held() {
    where = std::this_thread::get_id();
    gone.release();
  }
  std::thread::id& where;
  std::counting_semaphore<4>& gone;
};

// An import that ends when the server has gone must not stay open.
TEST(DeviceThread, WhatNobodyTakesGoesOnTheThread) {
  std::counting_semaphore<4> gone(0);
  std::counting_semaphore<4> done(0);
  std::thread::id first;
  std::thread::id second;
  DeviceThread thread([&] { done.release(); });
  thread.Run([] {}, [held = std::make_shared<Held>(first, gone)] {});
  done.acquire();
  thread.Discard();
  gone.acquire();
  thread.Run([] {}, [held = std::make_shared<Held>(second, gone)] {});
  gone.acquire();
  EXPECT_NE(first, std::this_thread::get_id());
  EXPECT_NE(second, std::this_thread::get_id());
}

// A driver that hangs must not keep anybody from ending.
TEST(DeviceThread, AHangingJobIsLeftBehind) {
  auto release = std::make_shared<std::binary_semaphore>(0);
  auto ended = std::make_shared<std::binary_semaphore>(0);
  std::atomic<int> told{0};
  {
    DeviceThread thread([&] { told.fetch_add(1); });
    thread.Run(
        [release, ended] {
          release->acquire();
          ended->release();
        },
        [] {});
    thread.Run([ended] { ADD_FAILURE() << "it had been given up"; }, [] {});
  }  // within kPatience
  release->release();
  ended->acquire();
  EXPECT_EQ(told.load(), 0);
}

TEST(DeviceThread, TheEndWaitsForWhatIsUnderWay) {
  std::atomic<int> ran{0};
  {
    DeviceThread thread([] {});
    for (int i = 0; i < 10; ++i) thread.Run([&] { ran.fetch_add(1); }, [] {});
  }
  EXPECT_EQ(ran.load(), 10);
}

}  // namespace
}  // namespace baton::internal

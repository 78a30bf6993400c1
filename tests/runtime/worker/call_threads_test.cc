#include "runtime/worker/call_threads.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "gtest/gtest.h"

#include "ipc/eventfd.h"
#include "ipc/unique_fd.h"
#include "ipc/worker_sleep.h"

namespace baton::runtime {
namespace {

class CallThreadsTest : public testing::Test {
 protected:
  void Begin(bool concurrent, std::function<void()> prepare = {}) {
    threads_.emplace(CallThreads::Options{.concurrent = concurrent,
                                          .sleeping = &sleeping_,
                                          .wake_fd = wake_.get(),
                                          .prepare = std::move(prepare)});
  }
  CallThread& Take() { return **threads_->Take(); }
  // Asleep until a call comes back: only its wake-up wakes.
  void AwaitBack(const CallThread& thread) {
    while (!thread.back()) sleep_.Sleep([&] { return thread.back(); }, /*timeout_ms=*/-1);
  }

  std::atomic<uint32_t> sleeping_{0};
  ipc::UniqueFd wake_ = *ipc::CreateEventFd();
  ipc::WorkerSleep sleep_{sleeping_, -1, wake_.get()};
  std::optional<CallThreads> threads_;
};

TEST_F(CallThreadsTest, PiecesOfACallHaveOneThreadAndWakeWhoWaits) {
  Begin(/*concurrent=*/true);
  CallThread& thread = Take();
  std::thread::id first;
  for (int i = 0; i < 500; ++i) {
    std::thread::id here;
    thread.Run([&] { here = std::this_thread::get_id(); });
    AwaitBack(thread);
    EXPECT_FALSE(thread.asks());
    if (i == 0) first = here;
    EXPECT_EQ(here, first);
  }
  EXPECT_NE(first, std::this_thread::get_id());
  threads_->GiveBack(thread);
  EXPECT_EQ(&Take(), &thread) << "another was started";
}

TEST_F(CallThreadsTest, AskingGivesTheTurnAway) {
  Begin(/*concurrent=*/true);
  CallThread& thread = Take();
  int question = 0;
  int answer = 0;
  thread.Run([&] {
    for (int i = 0; i < 500; ++i) {
      question = i;
      thread.Ask();
      ASSERT_EQ(answer, 2 * i);
    }
  });
  for (int i = 0; i < 500; ++i) {
    AwaitBack(thread);
    ASSERT_TRUE(thread.asks());
    ASSERT_EQ(question, i);
    answer = 2 * i;
    thread.Answer();
  }
  AwaitBack(thread);
  EXPECT_FALSE(thread.asks());
}

TEST_F(CallThreadsTest, ConcurrentPiecesMeet) {
  Begin(/*concurrent=*/true);
  std::atomic<int> inside{0};
  const auto meet = [&] {
    inside.fetch_add(1);
    while (inside.load() < 2) std::this_thread::yield();
  };
  CallThread& one = Take();
  CallThread& other = Take();
  one.Run(meet);
  other.Run(meet);
  AwaitBack(one);
  AwaitBack(other);
  EXPECT_FALSE(threads_->ModelTurn().owns_lock());
}

TEST_F(CallThreadsTest, OtherPiecesRunOneAtATimeButForThoseThatAsk) {
  Begin(/*concurrent=*/false);
  EXPECT_FALSE(threads_->ModelTurn().owns_lock()) << "nobody has a thread";
  CallThread& one = Take();
  CallThread& other = Take();
  int inside = 0;  // the turn guards it
  one.Run([&] {
    ++inside;
    one.Ask();
    ++inside;
  });
  AwaitBack(one);
  ASSERT_TRUE(one.asks());
  other.Run([&] { ++inside; });
  AwaitBack(other);
  EXPECT_EQ(inside, 2);
  {
    const auto turn = threads_->ModelTurn();
    EXPECT_TRUE(turn.owns_lock());
    one.Answer();
    ++inside;
    EXPECT_FALSE(one.back()) << "it came past the turn";
  }
  AwaitBack(one);
  EXPECT_EQ(inside, 4);
}

TEST_F(CallThreadsTest, EachThreadIsPreparedOnceAndJoined) {
  std::atomic<int> prepared{0};
  std::atomic<int> ended{0};
  struct AtEnd {
    std::atomic<int>* ended = nullptr;
    ~AtEnd() {
      if (ended != nullptr) ended->fetch_add(1);
    }
  };
  Begin(/*concurrent=*/true, [&] {
    thread_local AtEnd at_end;
    at_end.ended = &ended;
    prepared.fetch_add(1);
  });
  CallThread& one = Take();
  CallThread& other = Take();
  for (CallThread* thread : {&one, &other, &one}) {
    thread->Run([] {});
    AwaitBack(*thread);
  }
  EXPECT_EQ(prepared.load(), 2);
  threads_.reset();
  EXPECT_EQ(ended.load(), 2);
}

}  // namespace
}  // namespace baton::runtime

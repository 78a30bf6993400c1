// A hold and what waits when it begins: what cannot survive it fails at once,
// and says when to try again; nothing is called "not started" that may be.
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "baton/retry_after.h"
#include "ipc/futex.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/worker/batching_worker.h"

namespace baton::test {
namespace {

using ipc::ServerState;
using ::testing::HasSubstr;

constexpr int64_t kHourNs = int64_t{3600} * 1'000'000'000;
// Short of the gap; no test takes as long.
constexpr CallOptions kShort{.timeout = absl::Minutes(30)};
constexpr CallOptions kPatient{.timeout = absl::Hours(2)};

// Has a worker take the first request at the moment at which the front writes to its block, to
// withdraw it: the block is write-protected until then.
class TakenWhenWithdrawn {
 public:
  TakenWhenWithdrawn(std::byte* block, std::atomic<uint64_t>& taken) {
    const auto address = reinterpret_cast<uintptr_t>(block);
    page_ = reinterpret_cast<void*>(address & ~(uintptr_t{4096} - 1));
    taken_ = &taken;
    taken_before_ = false;
    struct sigaction action {};
    action.sa_handler = &Take;
    EXPECT_EQ(::sigaction(SIGSEGV, &action, &before_), 0);
    EXPECT_EQ(::mprotect(page_, 4096, PROT_READ), 0);
  }
  ~TakenWhenWithdrawn() {
    ::mprotect(page_, 4096, PROT_READ | PROT_WRITE);
    ::sigaction(SIGSEGV, &before_, nullptr);
  }
  TakenWhenWithdrawn(const TakenWhenWithdrawn&) = delete;
  TakenWhenWithdrawn& operator=(const TakenWhenWithdrawn&) = delete;

 private:
  static void Take(int /*signal*/) {
    taken_->store(1);
    // A fault anywhere else comes again, and is the test's end.
    if (taken_before_ || ::mprotect(page_, 4096, PROT_READ | PROT_WRITE) != 0) ::_exit(1);
    taken_before_ = true;
  }

  static inline void* page_;
  static inline std::atomic<uint64_t>* taken_;
  static inline bool taken_before_;
  struct sigaction before_ {};
};

class Holds : public ::testing::Test {
 protected:
  ChannelOptions options_{.ring_entries = 8,
                          .request_arena_bytes = 64 << 10,
                          .response_arena_bytes = 1 << 20,
                          .event_fd = true};
  void Hold(int64_t gap_ns = kHourNs) {
    server_.ShowState(ServerState::kHolding, ipc::MonotonicNs(), gap_ns);
  }
  void Poll() {
    for (int i = 0; i < 200; ++i) {
      if (auto outcome = channel_.Poll()) outcomes_.push_back(*std::move(outcome));
    }
  }
  static void ExpectTold(const absl::Status& status) {
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("was not started"));
    ASSERT_TRUE(RetryAfter(status)) << status;
    EXPECT_GT(*RetryAfter(status), absl::ZeroDuration());
    EXPECT_LE(*RetryAfter(status), absl::Hours(1) + absl::Milliseconds(1));
  }

  FakeServer server_;
  FunctionModel model_{Double};
  Channel channel_ = server_.Open(options_);
  std::vector<Outcome> outcomes_;
};

TEST_F(Holds, WhatCannotSurviveFailsAtOnceAndTheRestIsServedInOrder) {
  std::vector<Ticket> patient;
  std::vector<Ticket> in_a_hurry;
  for (int i = 0; i < 6; ++i) {
    const bool waits = i % 2 == 0;
    (waits ? patient : in_a_hurry)
        .push_back(*channel_.Submit(Vector(channel_, 1, float(i)), waits ? kPatient : kShort));
  }
  Poll();
  ASSERT_TRUE(outcomes_.empty());
  Hold();
  Poll();
  ASSERT_EQ(outcomes_.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(outcomes_[i].ticket, in_a_hurry[i]);
    ExpectTold(outcomes_[i].response.status());
  }
  // R4: their blocks are the worker's until it has said that it skips them.
  outcomes_.clear();
  EXPECT_LT(channel_.free_response_bytes(), options_.response_arena_bytes - 3 * 64 * 1024);
  StepWorker worker(server_, 0, 2, model_);
  server_.ShowState(ServerState::kServing);
  worker.StepAll();
  Poll();
  EXPECT_EQ(model_.runs(), 3);
  ASSERT_EQ(outcomes_.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(outcomes_[i].ticket, patient[i]);
    ASSERT_TRUE(outcomes_[i].response.ok());
    EXPECT_EQ(outcomes_[i].response->output<float>("y")[0], float(4 * i));
  }
  outcomes_.clear();
  EXPECT_EQ(channel_.free_request_bytes(), options_.request_arena_bytes);
  EXPECT_EQ(channel_.free_response_bytes(), options_.response_arena_bytes);
}

TEST_F(Holds, ANewRequestIsToldWhenToRetry) {
  Hold();
  Request request = Vector(channel_, 1, 1);
  ExpectTold(channel_.Submit(std::move(request), kShort).status());
  EXPECT_TRUE(request.valid());
  ExpectTold(channel_.Call(std::move(request), kShort).status());
  EXPECT_TRUE(channel_.Submit(std::move(request), kPatient).ok());
}

TEST_F(Holds, WhatWasStartedIsNotFailed) {
  { const StepWorker worker(server_, 0, 1, model_); }
  const Ticket started = *channel_.Submit(Vector(channel_, 1, 1), kShort);
  const Ticket waiting = *channel_.Submit(Vector(channel_, 1, 1), kShort);
  const RawWorker raw(server_, 0);
  raw.state().taken.store(1);
  Hold();
  Poll();
  ASSERT_EQ(outcomes_.size(), 1u);
  EXPECT_EQ(outcomes_[0].ticket, waiting);
  raw.Fail(0, 0, absl::StatusCode::kDataLoss);
  Poll();
  ASSERT_EQ(outcomes_.size(), 2u);
  EXPECT_EQ(outcomes_[1].ticket, started);
  EXPECT_TRUE(absl::IsDataLoss(outcomes_[1].response.status()));
}

// A model may answer CANCELLED as well. Only what was dropped was not started.
class WithdrawnAsItIsTaken : public Holds, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(, WithdrawnAsItIsTaken, ::testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "Dropped" : "CancelledByTheModel");
});

TEST_P(WithdrawnAsItIsTaken, EndsAsItsWorkerSays) {
  { const StepWorker worker(server_, 0, 1, model_); }
  const RawWorker raw(server_, 0);
  Request request = Vector(channel_, 1, 1);
  // The block starts with the word that the front writes, within the same page.
  std::byte* block = request.input_bytes(0).data();
  ASSERT_TRUE(channel_.Submit(std::move(request), kShort).ok());
  Hold();
  {
    const TakenWhenWithdrawn trap(block, raw.state().taken);
    Poll();
  }
  ASSERT_EQ(raw.state().taken.load(), 1u);
  ASSERT_EQ(raw.front().cancellations.load(), 1u);
  ASSERT_TRUE(outcomes_.empty()) << outcomes_[0].response.status();
  const bool dropped = GetParam();
  raw.Fail(0, 0, absl::StatusCode::kCancelled, dropped ? ipc::kCompletionDropped : 0);
  Poll();
  ASSERT_EQ(outcomes_.size(), 1u);
  const absl::Status status = outcomes_[0].response.status();
  if (dropped) {
    ExpectTold(status);
  } else {
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  }
}

TEST_F(Holds, AWorkerSaysWhatItDropped) {
  const RawWorker raw(server_, 0);
  FunctionModel model([](std::span<const TensorView>, loader::OutputSink&) {
    return absl::CancelledError("by the model");
  });
  ASSERT_TRUE(channel_.Cancel(*channel_.Submit(Vector(channel_, 1, 1), kPatient)).ok());
  ASSERT_TRUE(channel_.Submit(Vector(channel_, 1, 1), kPatient).ok());
  StepWorker worker(server_, 0, 1, model);
  worker.StepAll();
  EXPECT_EQ(model.runs(), 1);
  EXPECT_EQ(raw.completion(0).flags, ipc::kCompletionDropped);
  EXPECT_EQ(raw.completion(1).flags, 0);
}

TEST_F(Holds, WhatWasStartedOnceIsNotCalledNotStarted) {
  { const StepWorker worker(server_, 0, 1, model_); }
  CallOptions options = kShort;
  options.idempotent = true;
  ASSERT_TRUE(channel_.Submit(Vector(channel_, 1, 1), options).ok());
  RawWorker(server_, 0).state().taken.store(1);
  server_.ShowReaped(1);
  Poll();
  Hold();
  Poll();
  EXPECT_TRUE(outcomes_.empty()) << outcomes_[0].response.status();
  StepWorker worker(server_, 0, 2, model_);
  worker.StepAll();
  Poll();
  ASSERT_EQ(outcomes_.size(), 1u);
  EXPECT_TRUE(outcomes_[0].response.ok());
}

TEST_F(Holds, WhereNobodyKnowsForHowLongItWaits) {
  ASSERT_TRUE(channel_.Submit(Vector(channel_, 1, 1), kShort).ok());
  Hold(/*gap_ns=*/0);
  Poll();
  // One that takes longer than expected may end at any time.
  server_.ShowState(ServerState::kDraining, 1, 1);
  Poll();
  server_.ShowState(ServerState::kStaging, ipc::MonotonicNs(), kHourNs);  // still serves
  Poll();
  EXPECT_TRUE(outcomes_.empty()) << outcomes_[0].response.status();
  StepWorker worker(server_, 0, 1, model_);
  worker.StepAll();
  Poll();
  ASSERT_EQ(outcomes_.size(), 1u);
  EXPECT_TRUE(outcomes_[0].response.ok());
}

TEST_F(Holds, WhoSleepsIsWoken) {
  const RawWorker raw(server_, 0);
  for (const bool call : {true, false}) {
    std::thread supervisor([&] {
      while (raw.front().sleeping.load() != ipc::kFrontOnFutex) std::this_thread::yield();
      Hold();
    });
    absl::Status status;
    if (call) {
      status = channel_.Call(Vector(channel_, 1, 1), kShort).status();
    } else {
      EXPECT_TRUE(channel_.Submit(Vector(channel_, 1, 1), kShort).ok());
      status = channel_.Wait(absl::Hours(1))->response.status();
    }
    supervisor.join();
    ExpectTold(status);
    server_.ShowState(ServerState::kServing);
    Poll();
  }
}

TEST_F(Holds, AnEventLoopFindsItBeforeItSleeps) {
  ASSERT_TRUE(channel_.Submit(Vector(channel_, 1, 1), kShort).ok());
  EXPECT_FALSE(channel_.Arm());
  channel_.ClearEvent();
  Hold();
  EXPECT_TRUE(channel_.Arm());
  Poll();
  ASSERT_EQ(outcomes_.size(), 1u);
}

// Holds begin at every instant of a worker that is at it: whatever is called
// "not started" never runs, whatever ran is answered (R2).
class HoldsAtEveryInstant : public Holds {
 protected:
  // `start` gives what serves, for as long as that lives, with the model that it is given.
  template <typename Start>
  void NothingIsBothRunAndFailed(Start start);
};

template <typename Start>
void HoldsAtEveryInstant::NothingIsBothRunAndFailed(Start start) {
  std::set<float> ran;  // the worker's, until it has ended
  FunctionModel model([&](std::span<const TensorView> inputs, loader::OutputSink& outputs) {
    for (const float value : inputs[0].As<float>()) ran.insert(value);
    return Double(inputs, outputs);
  });
  std::set<float> answered;
  std::set<float> failed;
  {
    const auto worker = start(model);
    std::jthread supervisor([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        Hold();
        std::this_thread::yield();
        server_.ShowState(ServerState::kServing);
        std::this_thread::yield();
      }
    });
    float next = 0;
    std::map<uint64_t, float> values;
    while (answered.size() < 2000 || failed.size() < 200) {
      while (values.size() < 8) {
        absl::StatusOr<Ticket> ticket = channel_.Submit(Vector(channel_, 1, next), kShort);
        if (!ticket.ok()) break;  // a hold, or the ring is full of what is to be skipped
        values[ticket->id] = next++;
      }
      while (const std::optional<Outcome> outcome = channel_.Poll()) {
        const float value = values[outcome->ticket.id];
        ASSERT_EQ(values.erase(outcome->ticket.id), 1u);
        if (outcome->response.ok()) {
          ASSERT_EQ(outcome->response->output<float>("y")[0], 2 * value);
          answered.insert(value);
        } else {
          ASSERT_TRUE(absl::IsUnavailable(outcome->response.status()))
              << outcome->response.status();
          failed.insert(value);
        }
      }
    }
    supervisor.request_stop();
    supervisor.join();
    while (channel_.outstanding() > 0) {
      const std::optional<Outcome> outcome = channel_.Wait(absl::Minutes(1));
      ASSERT_TRUE(outcome);
      (outcome->response.ok() ? answered : failed).insert(values[outcome->ticket.id]);
    }
  }
  EXPECT_EQ(ran, answered);
  for (const float value : failed) EXPECT_FALSE(ran.contains(value)) << value;
}

TEST_F(HoldsAtEveryInstant, OfAWorker) {
  NothingIsBothRunAndFailed([this](loader::Model& model) {
    return std::make_unique<WorkerThread>(server_, 0, 1, model, /*busy=*/true);
  });
}

// One fence stands there for all requests of a batch.
TEST_F(HoldsAtEveryInstant, OfAWorkerThatBatches) {
  NothingIsBothRunAndFailed([this](loader::Model& model) {
    return std::make_unique<std::jthread>([this, &model](const std::stop_token& stop) {
      BatchingWorker worker(server_, model, {.max_batch = 8});
      while (!stop.stop_requested()) worker.Turn();
    });
  });
}

}  // namespace
}  // namespace baton::test

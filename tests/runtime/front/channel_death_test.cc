// A worker that dies between any two of its stores (R1): every request it had
// ends exactly once, as what it was (R2), and its blocks come back only when
// its death is certain (R4).
//
// Deaths are written by hand: the bytes that a worker leaves at each point,
// without the worker. Real kills at the same points are tests/crash's part.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);

ChannelOptions Small() {
  return {.ring_entries = 8, .request_arena_bytes = 64 << 10, .response_arena_bytes = 1 << 20};
}

// The last thing that the worker did.
enum class Died {
  kBeforeItLooked,
  kEntryRead,            // copied it, published nothing
  kTakenPublished,       // the request counts as started
  kResponseHalfWritten,  // in the model
  kCompletionFilled,     // all of the entry but the stamp
  kCompletionPublished,  // the stamp is there, `published` lags
  kPublishedStored,
  kWakeCounted,  // it said that it would wake the front, and did not
};
constexpr Died kDeaths[] = {Died::kBeforeItLooked,   Died::kEntryRead,
                            Died::kTakenPublished,   Died::kResponseHalfWritten,
                            Died::kCompletionFilled, Died::kCompletionPublished,
                            Died::kPublishedStored,  Died::kWakeCounted};
constexpr bool Started(Died died) { return died >= Died::kTakenPublished; }
constexpr bool Answered(Died died) { return died >= Died::kCompletionPublished; }

// What the front finds out first.
enum class Seen {
  kReaped,             // the supervisor's word, and only later a successor
  kReapedAndResumed,   // both at once
  kResumed,            // the successor's record; the supervisor's word came late
  kResumedAndServing,  // as before, and the successor has run requests already
  kHalfARecord,        // a successor that died within its record, then another
};
constexpr Seen kSeen[] = {Seen::kReaped, Seen::kReapedAndResumed, Seen::kResumed,
                          Seen::kResumedAndServing, Seen::kHalfARecord};

using Case = std::tuple<Died, Seen, bool, uint64_t>;  // idempotent, first_sequence

class WorkerDeath : public ::testing::TestWithParam<Case> {
 protected:
  WorkerDeath() {
    options_ = Small();
    options_.event_fd = true;
    options_.first_sequence = std::get<3>(GetParam());
    channel_.emplace(server_.Open(options_));
  }

  // Leaves the bytes of a worker of generation 1 that served `served` requests
  // and died at `died` with the next.
  void Die(Died died, uint64_t served) {
    const RawWorker raw(server_, 0);
    const uint64_t sequence = options_.first_sequence + served;
    const ipc::SubmissionEntry& entry = raw.submission(sequence);
    if (Started(died)) raw.state().taken.store(sequence + 1);
    if (died >= Died::kResponseHalfWritten) {
      for (std::byte& byte : raw.response_block(entry).first(200)) byte = std::byte{0xa5};
    }
    if (died < Died::kCompletionFilled) return;
    ipc::CompletionEntry& completion = raw.completion(sequence);
    completion.request_id = entry.request_id;
    completion.generation = 1;
    completion.descriptor_token = 0;
    completion.needed_bytes = 0;
    completion.status_code = static_cast<uint16_t>(absl::StatusCode::kDataLoss);
    completion.service_ns = 5;
    // An error with words of its own, so that it can be told from every other.
    const std::string text = "said before it died";
    std::ranges::copy(std::as_bytes(std::span(text)), raw.response_block(entry).begin());
    completion.descriptor_bytes = static_cast<uint32_t>(text.size());
    if (died < Died::kCompletionPublished) return;
    completion.stamp.store(sequence, std::memory_order_release);
    if (died < Died::kPublishedStored) return;
    raw.state().published.store(sequence + 1);
    if (died < Died::kWakeCounted) return;
    raw.state().wake_count.fetch_add(1);
  }

  ChannelOptions options_;
  FakeServer server_;
  FunctionModel model_{Double};
  std::optional<Channel> channel_;
};

// R1, R2: three answered, one that the worker dies with, three that wait.
TEST_P(WorkerDeath, EveryRequestEndsOnceAsWhatItWas) {
  const auto [died, seen, idempotent, first_sequence] = GetParam();
  Channel& channel = *channel_;
  const CallOptions options{.timeout = absl::Minutes(5), .idempotent = idempotent};
  {
    StepWorker worker(server_, 0, 1, model_);
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(channel.Submit(Vector(channel, 2, float(i)), options).ok());
      ASSERT_TRUE(worker.Step());
    }
  }
  // One of the answered is read before the death, two after it.
  std::map<uint64_t, std::string> ends;
  const auto note = [&](Outcome outcome) {
    const bool ok = outcome.response.ok();
    EXPECT_EQ(ends.count(outcome.ticket.id), 0u) << "ended twice";
    ends[outcome.ticket.id] = ok ? absl::StrCat("ok ", outcome.response->generation(), " ",
                                                outcome.response->output<float>("y")[0])
                                 : std::string(outcome.response.status().message());
  };
  // Both ways to look: before a sleep, and without one.
  const auto look = [&] {
    channel.Arm();
    channel.ClearEvent();
    while (auto outcome = channel.Poll()) note(*std::move(outcome));
  };
  note(*channel.Poll());
  const Ticket victim = *channel.Submit(Vector(channel, 2, 100), options);
  std::vector<Ticket> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(*channel.Submit(Vector(channel, 2, 200 + float(i)), options));
  }
  Die(died, 3);
  // R4: as long as nobody has said that it is dead, nothing comes back. (The
  // other half of the cases has no look between the death and the word of it.)
  if (idempotent) {
    const uint64_t free_before = channel.free_response_bytes();
    look();
    EXPECT_EQ(ends.size(), Answered(died) ? 4u : 3u);
    EXPECT_GE(channel.free_response_bytes(), free_before);
    EXPECT_EQ(ends.count(victim.id), Answered(died) ? 1u : 0u)
        << "given up while its worker may live";
  }

  if (seen == Seen::kReaped || seen == Seen::kReapedAndResumed) server_.ShowReaped(1);
  if (seen == Seen::kReaped) {
    look();
  }
  if (seen == Seen::kHalfARecord) {
    server_.ShowReaped(1);
    const RawWorker raw(server_, 0);
    raw.state().resume_generation.store(0);
    raw.state().resume_taken.store(12345);
    look();
    server_.ShowReaped(2);
  }
  StepWorker successor(server_, 0, 3, model_);
  if (seen == Seen::kResumedAndServing) successor.StepAll();
  look();
  if (seen == Seen::kResumed || seen == Seen::kResumedAndServing) server_.ShowReaped(1);
  // Whatever is still to come comes from the successor.
  while (channel.outstanding() > 0) {
    successor.StepAll();
    std::optional<Outcome> outcome = channel.Wait(kLong);
    ASSERT_TRUE(outcome) << "a request that nobody serves and nobody ends";
    note(*std::move(outcome));
  }

  EXPECT_EQ(ends.size(), 7u);
  if (Answered(died)) {
    EXPECT_EQ(ends[victim.id], "said before it died");
  } else if (Started(died) && !idempotent) {
    EXPECT_THAT(ends[victim.id], ::testing::HasSubstr("died after it had started"));
  } else {
    EXPECT_EQ(ends[victim.id], "ok 3 200") << "it was never started, or may be run twice";
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ends[waiting[static_cast<size_t>(i)].id], absl::StrCat("ok 3 ", 400 + 2 * i));
  }
  // Exactly once: three before, three that waited, and the victim where it is due.
  const bool victim_ran = !Answered(died) && (!Started(died) || idempotent);
  EXPECT_EQ(model_.runs(), victim_ran ? 7 : 6);
  // Nothing leaked, and the channel goes on.
  EXPECT_EQ(channel.free_request_bytes(), options_.request_arena_bytes);
  EXPECT_EQ(channel.free_response_bytes(), options_.response_arena_bytes);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(channel.Submit(Vector(channel, 2, 1), options).ok());
    ASSERT_TRUE(successor.Step());
    ASSERT_TRUE(channel.Poll()->response.ok());
  }
}

constexpr const char* kDeathNames[] = {
    "BeforeItLooked",   "EntryRead",           "TakenPublished",  "ResponseHalfWritten",
    "CompletionFilled", "CompletionPublished", "PublishedStored", "WakeCounted"};
constexpr const char* kSeenNames[] = {"Reaped", "ReapedAndResumed", "Resumed", "ResumedAndServing",
                                      "HalfARecord"};

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  const auto [died, seen, idempotent, first] = info.param;
  return absl::StrCat(kDeathNames[static_cast<int>(died)], "_", kSeenNames[static_cast<int>(seen)],
                      idempotent ? "_Idempotent" : "", first == 0 ? "" : "_Wrapping");
}

INSTANTIATE_TEST_SUITE_P(Points, WorkerDeath,
                         ::testing::Combine(::testing::ValuesIn(kDeaths),
                                            ::testing::ValuesIn(kSeen), ::testing::Bool(),
                                            ::testing::Values(uint64_t{0}, uint64_t{0} - 4)),
                         CaseName);

// ---- Others ------------------------------------------------------------------------------------

class WorkerDeaths : public ::testing::Test {
 protected:
  void Poll(Channel& channel) {
    for (int i = 0; i < 200; ++i) {
      if (auto outcome = channel.Poll()) outcomes_.push_back(*std::move(outcome));
    }
  }
  FakeServer server_;
  FunctionModel model_{Double};
  std::vector<Outcome> outcomes_;
};

// R4: expired, cancelled, and started by a worker that is then reaped: only
// then do the blocks come back.
TEST_F(WorkerDeaths, GivesBackTheBlocksOfWhatNobodyWaitsFor) {
  const ChannelOptions options = Small();
  Channel channel = server_.Open(options);
  { const StepWorker worker(server_, 0, 1, model_); }
  ASSERT_TRUE(channel.Submit(Vector(channel, 2, 1), {.timeout = absl::ZeroDuration()}).ok());
  const Ticket cancelled = *channel.Submit(Vector(channel, 2, 1));
  Poll(channel);
  ASSERT_EQ(outcomes_.size(), 1u);
  ASSERT_TRUE(absl::IsDeadlineExceeded(outcomes_[0].response.status()));
  ASSERT_TRUE(channel.Cancel(cancelled).ok());
  const RawWorker raw(server_, 0);
  raw.state().taken.store(2);
  Poll(channel);
  EXPECT_LT(channel.free_request_bytes(), options.request_arena_bytes);
  EXPECT_LT(channel.free_response_bytes(), options.response_arena_bytes);
  server_.ShowReaped(1);
  Poll(channel);
  EXPECT_EQ(channel.free_request_bytes(), options.request_arena_bytes);
  EXPECT_EQ(channel.free_response_bytes(), options.response_arena_bytes);
  EXPECT_EQ(outcomes_.size(), 1u);
}

// A request that kills its worker each time is retried once, not for ever.
TEST_F(WorkerDeaths, AnIdempotentRequestIsRetriedOnce) {
  Channel channel = server_.Open(Small());
  ASSERT_TRUE(channel.Submit(Vector(channel, 2, 1), {.idempotent = true}).ok());
  for (uint64_t generation = 1; generation <= 2; ++generation) {
    { const StepWorker worker(server_, 0, generation, model_); }
    Poll(channel);
    EXPECT_TRUE(outcomes_.empty());
    RawWorker(server_, 0).state().taken.store(generation);
    server_.ShowReaped(generation);
    Poll(channel);
  }
  ASSERT_EQ(outcomes_.size(), 1u);
  EXPECT_TRUE(absl::IsAborted(outcomes_[0].response.status()));
}

// Nobody waits for them any more: they are not run again.
TEST_F(WorkerDeaths, WhatWasCancelledOrHasExpiredIsNotRetried) {
  const ChannelOptions options = Small();
  Channel channel = server_.Open(options);
  { const StepWorker worker(server_, 0, 1, model_); }
  const Ticket cancelled = *channel.Submit(Vector(channel, 2, 1), {.idempotent = true});
  ASSERT_TRUE(
      channel.Submit(Vector(channel, 2, 1), {.timeout = absl::ZeroDuration(), .idempotent = true})
          .ok());
  RawWorker(server_, 0).state().taken.store(2);
  ASSERT_TRUE(channel.Cancel(cancelled).ok());
  Poll(channel);
  server_.ShowReaped(1);
  Poll(channel);
  EXPECT_EQ(channel.free_request_bytes(), options.request_arena_bytes) << "still in the ring";
  StepWorker successor(server_, 0, 2, model_);
  successor.StepAll();
  Poll(channel);
  EXPECT_EQ(model_.runs(), 0);
  ASSERT_EQ(outcomes_.size(), 1u);
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcomes_[0].response.status()));
}

// It was started once: "not started" would be a lie when the server ends.
TEST_F(WorkerDeaths, ARetryThatWaitsWasStarted) {
  Channel channel = server_.Open(Small());
  { const StepWorker worker(server_, 0, 1, model_); }
  const Ticket retried = *channel.Submit(Vector(channel, 2, 1), {.idempotent = true});
  ASSERT_TRUE(channel.Submit(Vector(channel, 2, 1), {.idempotent = true}).ok());
  RawWorker(server_, 0).state().taken.store(1);
  server_.ShowReaped(1);
  Poll(channel);
  EXPECT_TRUE(outcomes_.empty());
  server_.Die();
  while (outcomes_.size() < 2) Poll(channel);
  for (const Outcome& outcome : outcomes_) {
    const absl::Status status = outcome.response.status();
    EXPECT_TRUE(outcome.ticket == retried ? absl::IsAborted(status) : absl::IsUnavailable(status))
        << status;
  }
}

// Host blocks outlive workers: views stay what they are across reloads, until
// they are released, whichever first.
TEST_F(WorkerDeaths, ResponsesStayValidAcrossReloads) {
  const ChannelOptions options = Small();
  Channel channel = server_.Open(options);
  std::vector<Response> held;
  for (uint64_t generation = 1; generation <= 3; ++generation) {
    {
      StepWorker worker(server_, 0, generation, model_);
      for (int i = 0; i < 30; ++i) {
        const auto first = static_cast<float>(100 * generation + static_cast<uint64_t>(i));
        ASSERT_TRUE(channel.Submit(Vector(channel, 50, first)).ok());
        ASSERT_TRUE(worker.Step());
        Outcome outcome = *channel.Poll();
        ASSERT_TRUE(outcome.response.ok());
        if (i == 7) held.push_back(*std::move(outcome.response));
      }
    }
    server_.ShowReaped(generation);
    Poll(channel);
  }
  while (!held.empty()) {
    for (const Response& response : held) {
      const auto y = response.output<float>("y");
      ASSERT_EQ(y.size(), 50u);
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(y[i], 2 * (static_cast<float>(100 * response.generation() + 7 + i)));
      }
    }
    held.erase(held.begin() + static_cast<long>(held.size() / 2));
  }
  EXPECT_EQ(channel.free_response_bytes(), options.response_arena_bytes);
}

// Two generations die while the front looks elsewhere.
TEST_F(WorkerDeaths, ManyDeathsBetweenTwoLooks) {
  Channel channel = server_.Open(Small());
  std::vector<Ticket> tickets;
  for (int i = 0; i < 4; ++i) tickets.push_back(*channel.Submit(Vector(channel, 2, float(i))));
  for (uint64_t generation = 1; generation <= 3; ++generation) {
    { const StepWorker worker(server_, 0, generation, model_); }
    RawWorker(server_, 0).state().taken.store(generation);  // one each
    server_.ShowReaped(generation);
  }
  StepWorker last(server_, 0, 4, model_);
  last.StepAll();
  Poll(channel);
  ASSERT_EQ(outcomes_.size(), 4u);
  int aborted = 0;
  for (const Outcome& outcome : outcomes_) {
    if (outcome.ticket == tickets[3]) {
      EXPECT_TRUE(outcome.response.ok());
    } else {
      aborted += absl::IsAborted(outcome.response.status()) ? 1 : 0;
    }
  }
  EXPECT_EQ(aborted, 3);
}

// A call that sleeps hears of its worker's death.
TEST_F(WorkerDeaths, WakeASleepingCall) {
  Channel channel = server_.Open(Small());
  std::thread supervisor([&] {
    { const StepWorker worker(server_, 0, 1, model_); }
    const RawWorker raw(server_, 0);
    while (!raw.Submitted(0)) std::this_thread::yield();
    raw.state().taken.store(1);
    server_.ShowReaped(1);
  });
  const absl::Status status =
      channel.Call(Vector(channel, 2, 1), {.timeout = absl::Hours(1)}).status();
  supervisor.join();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
}

// The supervisor's word about the old worker comes when the new one has
// started something: that is not lost.
TEST_F(WorkerDeaths, ALateWordSaysNothingAboutTheSuccessor) {
  Channel channel = server_.Open(Small());
  { const StepWorker worker(server_, 0, 1, model_); }
  Poll(channel);
  ASSERT_TRUE(channel.Submit(Vector(channel, 2, 1)).ok());
  { const StepWorker worker(server_, 0, 2, model_); }
  Poll(channel);
  const RawWorker raw(server_, 0);
  raw.state().taken.store(1);
  server_.ShowReaped(1);
  Poll(channel);
  EXPECT_TRUE(outcomes_.empty()) << outcomes_[0].response.status();
  server_.ShowReaped(2);
  Poll(channel);
  ASSERT_EQ(outcomes_.size(), 1u);
  EXPECT_TRUE(absl::IsAborted(outcomes_[0].response.status()));
}

// A channel whose worker left impossible positions is refused, not served.
TEST_F(WorkerDeaths, ImpossiblePositionsAreDataLoss) {
  Channel channel = server_.Open(Small());
  const auto begin = [&] {
    auto server = runtime::ChannelServer::Map(1, server_.Descriptors(0));
    EXPECT_TRUE(server.ok());
    return (*server)->Begin(2);
  };
  const RawWorker raw(server_, 0);
  for (const uint64_t lie : {uint64_t{1}, uint64_t{8}, uint64_t{9}, uint64_t{1} << 40}) {
    raw.state().taken.store(lie);
    EXPECT_TRUE(absl::IsDataLoss(begin())) << lie;
    raw.state().taken.store(0);
    raw.state().published.store(lie);
    EXPECT_TRUE(absl::IsDataLoss(begin())) << lie;
    raw.state().published.store(0);
  }
  EXPECT_TRUE(begin().ok());
}

}  // namespace
}  // namespace baton::test

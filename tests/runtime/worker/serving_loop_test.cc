// The serving loop with channels that only count.
#include "runtime/worker/serving_loop.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/eventfd.h"
#include "ipc/futex.h"

namespace baton::runtime {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class NoModel final : public loader::Model {
 public:
  const Signature& signature() const override { return signature_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const loader::DeviceRegion&) override { return absl::OkStatus(); }
  absl::Status Run(std::span<const TensorView>, loader::OutputSink&) override {
    return absl::OkStatus();
  }

 private:
  Signature signature_;
};

// What happened, in order; waited for, never slept for.
class Story {
 public:
  void Add(const std::string& line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(line);
    changed_.notify_all();
  }
  void WaitFor(const std::string& line) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock,
                  [&] { return std::find(lines_.begin(), lines_.end(), line) != lines_.end(); });
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

// A ring of which only the length and the stamps are there.
struct FakeRing {
  // The next entry is there: to be found by its stamp.
  void Stamp() {
    const uint64_t sequence = ++submitted;
    stamps[sequence % stamps.size()] = sequence;
  }
  ipc::NextEntry Next() const {
    const uint64_t sequence = static_cast<uint64_t>(served) + 1;
    return {.stamp = &stamps[sequence % stamps.size()], .sequence = sequence};
  }

  std::atomic<int> waiting{0};
  std::atomic<uint64_t> submitted{0};
  std::array<std::atomic<uint64_t>, 16> stamps{};
  std::atomic<int> served{0};
  std::atomic<int> items{0};  // for calls that wait for them
  std::atomic<int> looks{0};  // of the loop
};

class FakeChannel final : public ChannelServer {
 public:
  FakeChannel(uint64_t number, FakeRing& ring, Story& story, absl::Status begin = absl::OkStatus())
      : number_(number), ring_(ring), story_(story), begin_(std::move(begin)) {}
  ~FakeChannel() override { story_.Add("gone " + std::to_string(number_)); }

  uint64_t channel() const override { return number_; }
  absl::Status Begin(uint64_t generation) override {
    story_.Add("begin " + std::to_string(number_) + " g" + std::to_string(generation));
    begun_ = begin_.ok();
    return begin_;
  }
  bool ServeOne(loader::Model&, ipc::WorkerPage&) override {
    if (!HasWork()) return false;
    ring_.waiting.fetch_sub(1);
    story_.Add("served " + std::to_string(number_));
    ring_.served.fetch_add(1);
    return true;
  }
  void UseDevice(const ChannelDevice&) override {}
  bool HasWork() const override {
    ring_.looks.fetch_add(1);
    return begun_ && ring_.waiting.load() > 0;
  }
  ipc::NextEntry Next() const override { return ring_.Next(); }

 private:
  const uint64_t number_;
  FakeRing& ring_;
  Story& story_;
  const absl::Status begin_;
  bool begun_ = false;
};

// Its requests take 100 ns each, by its own clock.
class SteadyChannel final : public ChannelServer {
 public:
  static constexpr int64_t kRequestNs = 100;
  explicit SteadyChannel(FakeRing& ring) : ring_(ring) {}

  uint64_t channel() const override { return 1; }
  absl::Status Begin(uint64_t) override {
    now_ns_ = ipc::MonotonicNs();
    return absl::OkStatus();
  }
  void UseDevice(const ChannelDevice&) override {}
  bool HasWork() const override { return ring_.waiting.load() > 0; }
  bool ServeOne(loader::Model&, ipc::WorkerPage&) override { return false; }
  size_t ServeBurst(loader::Model&, ipc::WorkerPage&, int64_t* now_ns) override {
    if (!HasWork()) return 0;
    ring_.waiting.fetch_sub(1);
    *now_ns = now_ns_ += kRequestNs;
    ring_.served.fetch_add(1);
    return 1;
  }

 private:
  FakeRing& ring_;
  int64_t now_ns_ = 0;
};

// Has work only by its stamp.
class StampedChannel final : public ChannelServer {
 public:
  explicit StampedChannel(FakeRing& ring) : ring_(ring) {}

  uint64_t channel() const override { return 1; }
  absl::Status Begin(uint64_t) override { return absl::OkStatus(); }
  void UseDevice(const ChannelDevice&) override {}
  bool HasWork() const override { return false; }
  ipc::NextEntry Next() const override { return ring_.Next(); }
  bool ServeOne(loader::Model&, ipc::WorkerPage&) override {
    if (!Next().Ready()) return false;
    ring_.served.fetch_add(1);
    return true;
  }

 private:
  FakeRing& ring_;
};

// Its requests are calls that wait for an item of their caller's.
class AwaitingChannel final : public ChannelServer {
 public:
  AwaitingChannel(uint64_t number, FakeRing& ring, Story& story)
      : number_(number), ring_(ring), story_(story) {}
  ~AwaitingChannel() override { story_.Add("gone " + std::to_string(number_)); }

  uint64_t channel() const override { return number_; }
  absl::Status Begin(uint64_t) override { return absl::OkStatus(); }
  void Join(ServingHost& host) override { host_ = &host; }
  void UseDevice(const ChannelDevice&) override {}
  bool HasWork() const override { return ring_.waiting.load() > 0; }
  bool ServeOne(loader::Model&, ipc::WorkerPage&) override {
    if (!HasWork()) return false;
    ring_.waiting.fetch_sub(1);
    story_.Add("waits " + std::to_string(number_));
    const auto there = [this] { return ring_.items.load() > 0; };
    absl::Status status;
    while (status.ok() && !there()) status = host_->Await(number_, there);
    story_.Add("ended " + std::string(absl::StatusCodeToString(status.code())));
    ring_.items.store(0);
    ring_.served.fetch_add(1);
    return true;
  }

 private:
  const uint64_t number_;
  FakeRing& ring_;
  Story& story_;
  ServingHost* host_ = nullptr;
};

class ServingLoopTest : public testing::Test, public ServingReplies {
 protected:
  void Held(uint64_t call) override { story_.Add("held #" + std::to_string(call)); }
  void ChannelRemoved(uint64_t call, uint64_t channel) override {
    story_.Add("removed " + std::to_string(channel) + " #" + std::to_string(call));
  }
  void ChannelRefused(uint64_t, uint64_t channel, const absl::Status&) override {
    story_.Add("refused " + std::to_string(channel));
  }

  void TearDown() override { Exit(); }

  // No spinning: every wait is a sleep.
  void Start(ipc::SpinBudget spin = ipc::SpinBudget(0)) {
    thread_ = std::thread([this, spin] {
      ServingLoop loop({.generation = 7,
                        .doorbell_fd = doorbell_.get(),
                        .spin = spin,
                        .heartbeat_ms = heartbeat_ms_},
                       page_, *commands_, *this);
      const std::optional<Command> admission = loop.WaitForAdmission();
      story_.Add(admission ? "admitted " + std::to_string(admission->capacity_bytes)
                           : "not admitted");
      if (admission) loop.Run(model_);
      story_.Add("end");
    });
  }
  void Say(Command::Kind kind, uint64_t call = 0) { commands_->Push({.kind = kind, .call = call}); }
  void Admit() {
    commands_->Push({.kind = Command::Kind::kAdmit, .capacity_bytes = 5});
    story_.WaitFor("admitted 5");
  }
  void AddChannel(uint64_t number, FakeRing& ring, absl::Status begin = absl::OkStatus()) {
    Command command{.kind = Command::Kind::kAddChannel};
    command.server = std::make_unique<FakeChannel>(number, ring, story_, std::move(begin));
    commands_->Push(std::move(command));
  }
  void AddAwaitingChannel(uint64_t number, FakeRing& ring) {
    Command command{.kind = Command::Kind::kAddChannel};
    command.server = std::make_unique<AwaitingChannel>(number, ring, story_);
    commands_->Push(std::move(command));
  }
  void Remove(uint64_t number, uint64_t call) {
    commands_->Push({.kind = Command::Kind::kRemoveChannel, .call = call, .channel = number});
  }
  // Admitted, serving, and in a call of channel 1 that waits for its caller.
  void StartWaiting(FakeRing& ring) {
    Start();
    AddAwaitingChannel(1, ring);
    Admit();
    Say(Command::Kind::kServe);
    Submit(ring);
    story_.WaitFor("waits 1");
  }
  void Submit(FakeRing& ring) {
    ring.waiting.fetch_add(1);
    ring.Stamp();
    ipc::WakeWorkerIfSleeping(page_.sleeping, doorbell_.get());
  }
  void GiveItem(FakeRing& ring) {
    ring.items.store(1);
    ipc::WakeWorkerIfSleeping(page_.sleeping, doorbell_.get());
  }
  void WaitUntil(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::yield();
  }
  void Exit() {
    if (!thread_.joinable()) return;
    Say(Command::Kind::kExit);
    thread_.join();
  }

  // A ring that lives until the loop has ended.
  FakeRing& NewRing() { return rings_.emplace_back(); }

  Story story_;
  std::deque<FakeRing> rings_;
  ipc::WorkerPage page_{};
  ipc::UniqueFd doorbell_ = *ipc::CreateEventFd();
  std::unique_ptr<CommandQueue> commands_ = *CommandQueue::Create();
  NoModel model_;
  int heartbeat_ms_ = 3'600'000;  // only wake-ups wake
  std::thread thread_;
};

TEST_F(ServingLoopTest, TouchesNothingBeforeServe) {
  page_.sleeping = 1;  // as a worker left it that died asleep
  page_.generation = 6;
  page_.busy_since_ns = 99;
  FakeRing& ring = NewRing();
  ring.waiting = 1;
  Start();
  AddChannel(1, ring);
  Admit();
  commands_->Push({.kind = Command::Kind::kRemoveChannel, .call = 3, .channel = 2});
  story_.WaitFor("removed 2 #3");
  EXPECT_THAT(story_.lines(), ElementsAre("admitted 5", "removed 2 #3"));
  EXPECT_EQ(page_.sleeping, 1u);
  EXPECT_EQ(page_.generation, 6u);
  EXPECT_EQ(page_.busy_since_ns, 99);
  EXPECT_EQ(page_.heartbeat_ns, 0);

  // What waited is found without a wake-up, which the one before may have taken.
  Say(Command::Kind::kServe);
  story_.WaitFor("served 1");
  EXPECT_THAT(story_.lines(), ElementsAre("admitted 5", "removed 2 #3", "begin 1 g7", "served 1"));
  EXPECT_EQ(page_.generation, 7u);
  EXPECT_EQ(page_.busy_since_ns, 0);
  EXPECT_NE(page_.heartbeat_ns, 0);
}

// R3: asleep around every request, and only the doorbell to be woken by.
TEST_F(ServingLoopTest, R3WakesForEveryRequest) {
  FakeRing& ring = NewRing();
  Start();
  AddChannel(1, ring);
  Admit();
  Say(Command::Kind::kServe);
  for (int i = 1; i <= 2000; ++i) {
    Submit(ring);
    WaitUntil([&] { return ring.served == i; });
  }
}

TEST_F(ServingLoopTest, SpinningServesToo) {
  FakeRing& ring = NewRing();
  Start(ipc::SpinBudget(ipc::SpinBudget::kDefaultMaxNs));
  AddChannel(1, ring);
  Admit();
  Say(Command::Kind::kServe);
  for (int i = 1; i <= 2000; ++i) {
    Submit(ring);
    WaitUntil([&] { return ring.served == i; });
  }
}

TEST_F(ServingLoopTest, TakesOneRequestOfEachChannelInTurn) {
  FakeRing& busy = NewRing();
  FakeRing& quiet = NewRing();
  busy.waiting = 4;
  quiet.waiting = 2;
  Start();
  AddChannel(1, busy);
  AddChannel(2, quiet);
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return busy.served == 4 && quiet.served == 2; });
  std::vector<std::string> served = story_.lines();
  std::erase_if(served, [](const std::string& line) { return !line.starts_with("served"); });
  EXPECT_THAT(served,
              ElementsAre("served 1", "served 2", "served 1", "served 2", "served 1", "served 1"));
}

// A channel without requests costs those that have some a look now and then, not one for each
// request; and it is never forgotten.
TEST_F(ServingLoopTest, IdleChannelsAreLookedAtNowAndThen) {
  constexpr int kRequests = 5'000;
  constexpr int kSweeps = kRequests * SteadyChannel::kRequestNs / 10'000;
  FakeRing& busy = NewRing();
  busy.waiting = kRequests;
  std::vector<FakeRing*> idle;
  Command command{.kind = Command::Kind::kAddChannel};
  command.server = std::make_unique<SteadyChannel>(busy);
  commands_->Push(std::move(command));
  for (uint64_t number = 2; number < 66; ++number) {
    idle.push_back(&NewRing());
    AddChannel(number, *idle.back());
  }
  Start();
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return busy.served == kRequests; });
  Exit();
  for (const FakeRing* ring : idle) {
    EXPECT_GE(ring->looks, kSweeps - 1);
    // Those of a turn or two more: as it begins, sleeps, and ends.
    EXPECT_LE(ring->looks, kSweeps + 20);
  }
}

// One that was idle is served while another one has requests all the time.
TEST_F(ServingLoopTest, ABusyChannelKeepsNobodyOut) {
  FakeRing& busy = NewRing();
  FakeRing& quiet = NewRing();
  busy.waiting = 1'000'000'000;
  Start();
  Command command{.kind = Command::Kind::kAddChannel};
  command.server = std::make_unique<SteadyChannel>(busy);
  commands_->Push(std::move(command));
  AddChannel(2, quiet);
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return busy.served > 100; });
  for (int i = 1; i <= 100; ++i) {
    Submit(quiet);
    WaitUntil([&] { return quiet.served == i; });
  }
}

// Nor does one that has requests one after the other, which the loop spins for in between.
TEST_F(ServingLoopTest, OneThatWakesUpIsSeenWhileAnotherSpins) {
  FakeRing& busy = NewRing();
  std::vector<FakeRing*> quiet;
  Start(ipc::SpinBudget(1'000'000'000));
  AddChannel(1, busy);
  for (uint64_t number = 2; number < 12; ++number) {
    quiet.push_back(&NewRing());
    AddChannel(number, *quiet.back());
  }
  Admit();
  Say(Command::Kind::kServe);
  for (int i = 1; i <= 500; ++i) {
    Submit(busy);
    WaitUntil([&] { return busy.served == i; });
    FakeRing& other = *quiet[static_cast<size_t>(i) % quiet.size()];
    const int before = other.served;
    Submit(other);
    WaitUntil([&] { return other.served == before + 1; });
  }
}

// A spin looks at the stamp itself where a channel that had a request lately says where it is: this
// one is never asked.
TEST_F(ServingLoopTest, ASpinLooksAtWhereTheNextEntryShows) {
  FakeRing& ring = NewRing();
  ring.Stamp();
  heartbeat_ms_ = 1;
  Start(ipc::SpinBudget(60'000'000'000));
  Command command{.kind = Command::Kind::kAddChannel};
  command.server = std::make_unique<StampedChannel>(ring);
  commands_->Push(std::move(command));
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return ring.served == 1; });
  // It spins when it has beaten twice more: no turn takes what comes now.
  for (int beat = 0; beat < 2; ++beat) {
    const int64_t last_ns = page_.heartbeat_ns;
    WaitUntil([&] { return page_.heartbeat_ns != last_ns; });
  }
  ring.Stamp();
  WaitUntil([&] { return ring.served == 2; });
}

TEST_F(ServingLoopTest, HoldStopsAndServeResumes) {
  FakeRing& ring = NewRing();
  Start();
  AddChannel(1, ring);
  Admit();
  Say(Command::Kind::kServe);
  Submit(ring);
  WaitUntil([&] { return ring.served == 1; });
  Say(Command::Kind::kHold, 11);
  story_.WaitFor("held #11");
  Submit(ring);
  // A second hold is answered behind whatever the loop would have done.
  Say(Command::Kind::kHold, 12);
  story_.WaitFor("held #12");
  EXPECT_EQ(ring.served, 1);
  EXPECT_EQ(page_.sleeping, 0u) << "fronts would ring for nothing";

  Say(Command::Kind::kServe);
  WaitUntil([&] { return ring.served == 2; });
  EXPECT_THAT(story_.lines(), ElementsAre("admitted 5", "begin 1 g7", "served 1", "held #11",
                                          "held #12", "served 1"));
}

TEST_F(ServingLoopTest, ChannelsComeAndGoWhileItServes) {
  FakeRing& first = NewRing();
  FakeRing& second = NewRing();
  Start();
  Admit();
  Say(Command::Kind::kServe);
  AddChannel(1, first);
  AddChannel(2, second);
  Submit(second);
  story_.WaitFor("served 2");
  commands_->Push({.kind = Command::Kind::kRemoveChannel, .call = 4, .channel = 2});
  story_.WaitFor("removed 2 #4");
  Submit(first);
  story_.WaitFor("served 1");
  EXPECT_THAT(story_.lines(), ElementsAre("admitted 5", "begin 1 g7", "begin 2 g7", "served 2",
                                          "gone 2", "removed 2 #4", "served 1"));
}

TEST_F(ServingLoopTest, AChannelThatCannotBeginIsDroppedAlone) {
  FakeRing& bad = NewRing();
  FakeRing& good = NewRing();
  bad.waiting = 1;
  good.waiting = 1;
  Start();
  AddChannel(1, bad, absl::DataLossError("impossible position"));
  AddChannel(2, good);
  Admit();
  Say(Command::Kind::kServe);
  story_.WaitFor("served 2");
  EXPECT_THAT(story_.lines(), ElementsAre("admitted 5", "begin 1 g7", "gone 1", "refused 1",
                                          "begin 2 g7", "served 2"));
  EXPECT_EQ(bad.waiting, 1);
}

TEST_F(ServingLoopTest, ChannelsComeAndGoWhileACallWaitsForItsCaller) {
  FakeRing& waits = NewRing();
  FakeRing& other = NewRing();
  StartWaiting(waits);
  AddChannel(2, other);
  AddChannel(3, other, absl::DataLossError("impossible position"));
  story_.WaitFor("refused 3");
  Remove(2, 5);
  story_.WaitFor("removed 2 #5");
  Remove(9, 6);  // which is not there
  story_.WaitFor("removed 9 #6");
  EXPECT_EQ(waits.served, 0);
  GiveItem(waits);
  story_.WaitFor("ended OK");
  EXPECT_THAT(story_.lines(),
              ElementsAre("admitted 5", "waits 1", "begin 2 g7", "begin 3 g7", "gone 3",
                          "refused 3", "gone 2", "removed 2 #5", "removed 9 #6", "ended OK"));
}

// All channels are in a row of which the one that waits is in the middle.
TEST_F(ServingLoopTest, TheOthersAreServedAfterACallInWhichChannelsWent) {
  FakeRing& waits = NewRing();
  FakeRing& gone = NewRing();
  FakeRing& stays = NewRing();
  Start();
  AddChannel(2, gone);
  AddAwaitingChannel(1, waits);
  AddChannel(3, stays);
  Admit();
  Say(Command::Kind::kServe);
  Submit(waits);
  story_.WaitFor("waits 1");
  Submit(stays);
  Remove(2, 5);
  story_.WaitFor("removed 2 #5");
  EXPECT_EQ(stays.served, 0);
  GiveItem(waits);
  story_.WaitFor("served 3");
}

TEST_F(ServingLoopTest, AHoldIsNotedWhileACallWaitsAndAnsweredOnceItHasEnded) {
  FakeRing& waits = NewRing();
  StartWaiting(waits);
  Submit(waits);  // one more, which the hold is to keep in the ring
  Say(Command::Kind::kHold, 11);
  Remove(9, 6);
  story_.WaitFor("removed 9 #6");
  GiveItem(waits);
  story_.WaitFor("held #11");
  EXPECT_THAT(story_.lines(),
              ElementsAre("admitted 5", "waits 1", "removed 9 #6", "ended OK", "held #11"));
  EXPECT_EQ(waits.waiting, 1);
}

TEST_F(ServingLoopTest, AHoldThatIsCalledOffWhileACallWaitsIsNotAnswered) {
  FakeRing& waits = NewRing();
  StartWaiting(waits);
  Say(Command::Kind::kHold, 11);
  Say(Command::Kind::kServe);
  Remove(9, 6);
  story_.WaitFor("removed 9 #6");
  GiveItem(waits);
  story_.WaitFor("ended OK");
  Submit(waits);
  WaitUntil([&] { return waits.waiting == 0; });
  GiveItem(waits);
  WaitUntil([&] { return waits.served == 2; });
  EXPECT_THAT(story_.lines(), ElementsAre("admitted 5", "waits 1", "removed 9 #6", "ended OK",
                                          "waits 1", "ended OK"));
}

TEST_F(ServingLoopTest, TheRemovalOfItsOwnChannelEndsACallThatWaits) {
  FakeRing& waits = NewRing();
  StartWaiting(waits);
  Remove(1, 5);
  Say(Command::Kind::kHold, 11);  // answered behind it
  story_.WaitFor("held #11");
  EXPECT_THAT(story_.lines(), ElementsAre("admitted 5", "waits 1", "ended CANCELLED", "gone 1",
                                          "removed 1 #5", "held #11"));
}

TEST_F(ServingLoopTest, AnExitEndsACallThatWaits) {
  FakeRing& waits = NewRing();
  StartWaiting(waits);
  Exit();
  EXPECT_THAT(story_.lines(),
              ElementsAre("admitted 5", "waits 1", "ended ABORTED", "end", "gone 1"));
}

TEST_F(ServingLoopTest, ExitsBeforeAdmission) {
  Start();
  Exit();
  EXPECT_THAT(story_.lines(), ElementsAre("not admitted", "end"));
}

// One that owns its CPU, and has been told to spin for long.
TEST_F(ServingLoopTest, OneThatSpinsForLongBeatsAndDoesNotSleep) {
  heartbeat_ms_ = 1;
  FakeRing& ring = NewRing();
  Start(ipc::SpinBudget(3'600'000'000'000));
  AddChannel(1, ring);
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return page_.heartbeat_ns != 0; });
  for (int i = 0; i < 5; ++i) {
    const int64_t before = page_.heartbeat_ns;
    WaitUntil([&] { return page_.heartbeat_ns > before; });
    EXPECT_EQ(page_.sleeping, 0u);
  }
  Submit(ring);
  WaitUntil([&] { return ring.served == 1; });
}

// The doorbell is every front's: one that is broken may have read it empty.
TEST_F(ServingLoopTest, WhatNobodyRangForIsFoundAllTheSame) {
  heartbeat_ms_ = 1;
  FakeRing& ring = NewRing();
  Start();
  AddChannel(1, ring);
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return page_.sleeping == 1; });
  ring.waiting.fetch_add(1);
  WaitUntil([&] { return ring.served == 1; });
}

TEST_F(ServingLoopTest, AnIdleWorkerBeatsWithoutALookAtItsRings) {
  heartbeat_ms_ = 1;
  FakeRing& ring = NewRing();
  Start();
  AddChannel(1, ring);
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return page_.sleeping == 1; });
  const int64_t start = ipc::MonotonicNs();
  const int before = ring.looks;
  int64_t last = 0;
  for (int beats = 0; beats < 200; ++beats) {
    WaitUntil([&] { return page_.heartbeat_ns != last; });
    last = page_.heartbeat_ns;
  }
  // Three looks in ten beats, where each beat had two; and there are no more beats than
  // milliseconds.
  const int64_t most_beats = (ipc::MonotonicNs() - start) / 1'000'000 + 1;
  EXPECT_LE(ring.looks - before, most_beats);
}

TEST_F(ServingLoopTest, AnIdleWorkerStillBeats) {
  heartbeat_ms_ = 1;
  Start();
  Admit();
  Say(Command::Kind::kServe);
  WaitUntil([&] { return page_.heartbeat_ns != 0; });
  for (int i = 0; i < 3; ++i) {
    const int64_t before = page_.heartbeat_ns;
    WaitUntil([&] { return page_.heartbeat_ns > before; });
  }
  Say(Command::Kind::kHold, 1);
  story_.WaitFor("held #1");
  const int64_t before = page_.heartbeat_ns;
  WaitUntil([&] { return page_.heartbeat_ns > before; });
}

}  // namespace
}  // namespace baton::runtime

// Leases on device memory: what is leased stays mapped, whatever ends; what a
// reload is told of leases is true, and the end of the last is never lost. The
// kernel says whether an arena is mapped, by the witness that reloads use.
#include "baton/device_lease.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "baton/retry_after.h"
#include "ipc/device.h"
#include "ipc/futex.h"
#include "runtime/front/arena_leases.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Verdict = ipc::ArenaWitness::Verdict;

constexpr uint64_t kBytes = 64 << 10;

ChannelOptions Small() {
  return {.ring_entries = 8, .request_arena_bytes = 64 << 10, .response_arena_bytes = 64 << 10};
}

template <typename Condition>
void Until(Condition&& condition) {
  while (!condition()) std::this_thread::yield();
}

class DeviceLeases : public ::testing::Test {
 protected:
  // Attaches; `on_generation` notes what it is told, then does `then_`.
  void Attach(bool import_device = true) {
    FrontOptions options;
    options.import_device = import_device;
    options.on_generation = [this](GenerationEvent event, uint64_t generation) {
      constexpr const char* kNames[] = {"closing ", "kept ", "closed "};
      {
        const std::lock_guard lock(mutex_);
        events_.push_back(absl::StrCat(kNames[static_cast<int>(event)], generation));
      }
      if (then_ != nullptr) then_(event);
    };
    session_ = server_->Connect(options);
    channel_.emplace(*internal::ChannelCore::OpenChannel(session_, Small()));
  }

  // A worker of `generation` allocates, and its arena is offered.
  void Offer(uint64_t generation) {
    Worker& worker = workers_[generation];
    worker.device = ipc::CreateHostDevice(kBytes);
    worker.arena = *worker.device->CreateArena(kBytes, generation);
    std::fill_n(reinterpret_cast<std::byte*>(worker.arena->address()), kBytes,
                std::byte(generation));
    worker.witness = *ipc::WitnessHostArena(*worker.arena->Export());
    server_->OfferArena(*worker.arena->Export());
  }
  void Serve(uint64_t generation) {
    Offer(generation);
    ASSERT_TRUE(Heard(absl::StrCat("imported ", generation)));
    server_->status_page().generation.store(generation);
  }
  // The worker has exited; is its memory free?
  Verdict Confirm(uint64_t generation) {
    workers_[generation].arena.reset();
    return workers_[generation].witness->Confirm();
  }

  // The next that the front says, once.
  bool Heard(const std::string& text) {
    if (!server_->AwaitSaid(++heard_)) return false;
    const std::string said = server_->Said()[heard_ - 1];
    EXPECT_EQ(said, text);
    return said == text;
  }
  std::vector<std::string> Events() {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  void AwaitEvents(size_t count) {
    Until([&] { return Events().size() >= count; });
  }
  DeviceLease Lease() {
    absl::StatusOr<DeviceLease> lease = channel_->LeaseDevice();
    EXPECT_TRUE(lease.ok()) << lease.status();
    return lease.ok() ? *std::move(lease) : DeviceLease();
  }
  static void ExpectBytes(const DeviceLease& lease, uint64_t generation) {
    EXPECT_EQ(lease.generation(), generation);
    ASSERT_EQ(lease.bytes().size(), kBytes);
    EXPECT_TRUE(std::ranges::all_of(lease.bytes(),
                                    [&](std::byte b) { return b == std::byte(generation); }));
  }

  struct Worker {
    std::unique_ptr<ipc::Device> device;
    std::unique_ptr<ipc::DeviceArena> arena;
    std::unique_ptr<ipc::ArenaWitness> witness;
  };
  std::map<uint64_t, Worker> workers_;
  std::unique_ptr<FakeServer> server_ = std::make_unique<FakeServer>();
  size_t heard_ = 0;
  std::mutex mutex_;
  std::vector<std::string> events_;
  // Used by the session's thread until it has ended: declared before the session.
  std::function<void(GenerationEvent)> then_;  // set before Attach
  std::atomic<bool> done_{false};
  DeviceLease lease_;
  std::shared_ptr<internal::Session> session_;
  std::optional<Channel> channel_;
};

TEST_F(DeviceLeases, ReadTheArenaInPlace) {
  Attach();
  EXPECT_TRUE(absl::IsUnavailable(channel_->LeaseDevice().status()));
  Serve(1);
  DeviceLease lease = Lease();
  ExpectBytes(lease, 1);
  // Not a copy: what the worker writes is what is read.
  *reinterpret_cast<std::byte*>(workers_[1].arena->address()) = std::byte{77};
  EXPECT_EQ(lease.bytes()[0], std::byte{77});
  DeviceLease moved = std::move(lease);
  EXPECT_FALSE(lease.valid());  // NOLINT
  EXPECT_TRUE(lease.bytes().empty());
  EXPECT_EQ(lease.generation(), 0u);
  EXPECT_EQ(moved.generation(), 1u);
}

TEST_F(DeviceLeases, AreOnlyForWhoImports) {
  Attach(/*import_device=*/false);
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_->LeaseDevice().status()));
  Channel moved = std::move(*channel_);
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_->LeaseDevice().status()));
}

TEST_F(DeviceLeases, ClosingIsToldWhatIsHeldAtOnceAndWhenItChanges) {
  Attach();
  Serve(1);
  std::optional<Channel> other(*internal::ChannelCore::OpenChannel(session_, Small()));
  DeviceLease a = Lease();
  DeviceLease b = Lease();
  DeviceLease c = *other->LeaseDevice();
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x2 2x1"));
  const absl::Status refused = channel_->LeaseDevice().status();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("generation 1"));
  EXPECT_FALSE(RetryAfter(refused)) << "nobody knows";
  other.reset();  // a lease outlives its channel
  a = DeviceLease();
  ASSERT_TRUE(Heard("leases 7 of 1: 1x1 2x1"));
  std::thread([lease = std::move(b)] {}).join();  // whichever thread
  ASSERT_TRUE(Heard("leases 7 of 1: 2x1"));
  ExpectBytes(c, 1);
  c = DeviceLease();
  ASSERT_TRUE(Heard("leases 7 of 1:"));
  server_->SayCloseImports(1);
  ASSERT_TRUE(Heard("closed 1"));
  EXPECT_EQ(Confirm(1), Verdict::kFreed);
}

TEST(ArenaLeases, WhatCouldNotBeSentIsDueAgainAsItIsThen) {
  const std::unique_ptr<ipc::Device> device = ipc::CreateHostDevice(kBytes);
  const std::unique_ptr<ipc::DeviceArena> arena = *device->CreateArena(kBytes, 1);
  internal::ArenaLeases leases;
  ASSERT_TRUE(leases.Add(*ipc::ImportHostArena(*arena->Export())));
  internal::LeasedArena* leased = leases.Acquire(/*channel=*/5, /*serving=*/1).arena;
  ASSERT_TRUE(leases.StartClosing(1, /*call=*/7));
  ASSERT_EQ(leases.TakeDue().answers.size(), 1u);
  EXPECT_TRUE(leases.TakeDue().answers.empty());
  leases.Release(leased, 5);
  EXPECT_TRUE(leases.Owe(1));
  const internal::ArenaLeases::Due due = leases.TakeDue();
  ASSERT_EQ(due.answers.size(), 1u);
  EXPECT_EQ(due.answers[0].call, 7u);
  EXPECT_TRUE(due.answers[0].held.empty());
  EXPECT_TRUE(leases.Owe(1));
  EXPECT_EQ(leases.TakeDue().answers.size(), 1u);
  EXPECT_FALSE(leases.Owe(2));
}

TEST_F(DeviceLeases, ARefusalSaysWhenToTryAgain) {
  Attach();
  Serve(1);
  server_->ShowState(ipc::ServerState::kDraining, ipc::MonotonicNs(), /*gap_ns=*/3600'000'000'000);
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1:"));
  const absl::Status refused = channel_->LeaseDevice().status();
  ASSERT_TRUE(RetryAfter(refused)) << refused;
  EXPECT_GT(*RetryAfter(refused), absl::ZeroDuration());
  EXPECT_LE(*RetryAfter(refused), absl::Hours(1) + absl::Milliseconds(1));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("DRAINING"));
}

TEST_F(DeviceLeases, AGenerationThatIsKeptGivesLeasesAgain) {
  Attach();
  Serve(1);
  DeviceLease lease = Lease();
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x1"));
  server_->SayKept(1);
  AwaitEvents(2);
  const DeviceLease second = Lease();
  // The question was withdrawn: the next to be said answers the next one.
  lease = DeviceLease();
  server_->SayClosing(1, 8);
  ASSERT_TRUE(Heard("leases 8 of 1: 1x1"));
}

TEST_F(DeviceLeases, AFrontThatMapsNothingHoldsNothing) {
  Attach();
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1:"));
  server_->SayCloseImports(1);
  ASSERT_TRUE(Heard("closed 1"));
}

// A crash, a stop, an overlap: the mapping and the answer wait for the lease.
TEST_F(DeviceLeases, ClosingAnImportWaitsForTheLastLease) {
  Attach();
  Serve(1);
  DeviceLease lease = Lease();
  DeviceLease second = Lease();
  server_->SayCloseImports(1);
  ASSERT_TRUE(Heard("leases 0 of 1: 1x2"));  // so that it is not taken for one that hangs
  EXPECT_EQ(session_->imported_generation(), 0u);
  EXPECT_TRUE(absl::IsUnavailable(channel_->LeaseDevice().status()));
  server_->SayKept(1);  // there is no way back from here
  second = DeviceLease();
  ASSERT_TRUE(Heard("leases 0 of 1: 1x1"));
  EXPECT_TRUE(absl::IsUnavailable(channel_->LeaseDevice().status()));
  EXPECT_EQ(Confirm(1), Verdict::kStillMapped);
  ExpectBytes(lease, 1);
  lease = DeviceLease();
  ASSERT_TRUE(Heard("closed 1"));
  EXPECT_EQ(Confirm(1), Verdict::kFreed);
}

TEST_F(DeviceLeases, TwoGenerationsAreMappedWhileTheOldOneIsLeased) {
  Attach();
  Serve(1);
  DeviceLease old = Lease();
  Offer(2);
  ASSERT_TRUE(Heard("imported 2"));
  // As long as 1 serves, it is 1 that is leased.
  EXPECT_EQ(session_->imported_generation(), 2u);
  ExpectBytes(Lease(), 1);
  server_->status_page().generation.store(2);
  DeviceLease next = Lease();
  ExpectBytes(next, 2);
  server_->SayCloseImports(1);
  ASSERT_TRUE(Heard("leases 0 of 1: 1x1"));
  ExpectBytes(old, 1);
  ExpectBytes(next, 2);
  ExpectBytes(Lease(), 2);
  old = DeviceLease();
  ASSERT_TRUE(Heard("closed 1"));
  EXPECT_EQ(Confirm(1), Verdict::kFreed);
  EXPECT_EQ(Confirm(2), Verdict::kStillMapped);
  ExpectBytes(next, 2);
}

TEST_F(DeviceLeases, AnArenaThatIsThereAlreadyIsNotMappedTwice) {
  Attach();
  Serve(1);
  const DeviceLease lease = Lease();
  server_->OfferArena(*workers_[1].arena->Export());
  ASSERT_TRUE(Heard("not imported 1"));
  ExpectBytes(lease, 1);
  ExpectBytes(Lease(), 1);
}

TEST_F(DeviceLeases, OutliveTheServer) {
  Attach();
  Serve(1);
  Offer(2);
  ASSERT_TRUE(Heard("imported 2"));
  DeviceLease lease = Lease();
  DeviceLease second = Lease();
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x2"));
  server_->Die();
  Until([&] { return session_->gone() && session_->imported_generation() == 0; });
  EXPECT_EQ(session_->closing_generation(), 0u);
  EXPECT_FALSE(channel_->LeaseDevice().ok());
  EXPECT_TRUE(absl::IsUnavailable(internal::Session::Lease(session_, 1).status()));
  // What nobody leases is let go of.
  Until([&] { return Confirm(2) == Verdict::kFreed; });
  ExpectBytes(lease, 1);
  second = DeviceLease();
  EXPECT_EQ(Confirm(1), Verdict::kStillMapped);
  ExpectBytes(lease, 1);
  lease = DeviceLease();
  EXPECT_EQ(Confirm(1), Verdict::kFreed);
}

// The connection stays, so that a reload is told who holds what.
TEST_F(DeviceLeases, OutliveTheChannelAndTheFront) {
  Attach();
  Serve(1);
  DeviceLease lease = Lease();
  channel_.reset();
  session_.reset();
  ExpectBytes(lease, 1);
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x1"));
  EXPECT_EQ(Confirm(1), Verdict::kStillMapped);
  lease = DeviceLease();  // ends the connection, too
  EXPECT_EQ(Confirm(1), Verdict::kFreed);
}

// ---- What a service is told --------------------------------------------------------------------

TEST_F(DeviceLeases, AServiceIsToldThatAGenerationClosesAndWhatCameOfIt) {
  Attach();
  Serve(1);
  EXPECT_EQ(session_->closing_generation(), 0u);
  server_->SayClosing(1, 7);
  AwaitEvents(1);
  EXPECT_EQ(session_->closing_generation(), 1u);
  server_->SayKept(1);
  AwaitEvents(2);
  EXPECT_EQ(session_->closing_generation(), 0u);
  server_->SayClosing(1, 8);
  server_->SayClosing(1, 9);  // said again is not said twice
  AwaitEvents(3);
  server_->SayCloseImports(1);
  AwaitEvents(4);
  EXPECT_EQ(session_->closing_generation(), 0u);
  Offer(2);
  // No word before: its worker has died.
  server_->SayCloseImports(2);
  AwaitEvents(6);
  EXPECT_THAT(Events(),
              ElementsAre("closing 1", "kept 1", "closing 1", "closed 1", "closing 2", "closed 2"));
}

// Nobody asks a front that maps nothing to close anything.
TEST_F(DeviceLeases, AServiceWithoutImportsIsToldOnceTheWorkerIsReaped) {
  Attach(/*import_device=*/false);
  server_->SayClosing(1, 0);
  AwaitEvents(1);
  EXPECT_EQ(session_->closing_generation(), 1u);
  server_->ShowReaped(1);
  AwaitEvents(2);
  EXPECT_EQ(session_->closing_generation(), 0u);
  EXPECT_THAT(Events(), ElementsAre("closing 1", "closed 1"));
  EXPECT_TRUE(server_->Said().empty()) << "answered what was not asked";
}

TEST_F(DeviceLeases, TheCallbackMayReturnLeasesAndThrow) {
  then_ = [this](GenerationEvent) {
    lease_ = DeviceLease();
    throw std::runtime_error("of the service's own");
  };
  Attach();
  Serve(1);
  lease_ = Lease();
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x1"));  // at once, before the service is asked
  ASSERT_TRUE(Heard("leases 7 of 1:"));
  server_->SayCloseImports(1);
  ASSERT_TRUE(Heard("closed 1"));
}

TEST_F(DeviceLeases, TheCallbackMayLetGoOfTheLastHandle) {
  then_ = [this](GenerationEvent) {
    lease_ = DeviceLease();
    done_ = true;
  };
  Attach();
  Serve(1);
  lease_ = Lease();
  channel_.reset();
  session_.reset();
  server_->SayClosing(1, 7);
  Until([&] { return done_.load(); });
  EXPECT_EQ(Confirm(1), Verdict::kFreed);
}

// ---- Races -------------------------------------------------------------------------------------

// Every drain ends: were one release lost between what was told and what is
// held, the server would wait for ever. And none is held after it was told so.
TEST_F(DeviceLeases, NoReleaseIsLostAndNoneIsGivenWhileClosing) {
  constexpr int kThreads = 4;
  constexpr uint64_t kRounds = 100;
  Attach();
  Serve(1);
  std::atomic<bool> stop{false};
  std::atomic<bool> told_none{false};
  std::atomic<uint64_t> given{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, channel = static_cast<uint64_t>(i % 3)] {
      // Returned one by one, so that returns fall between the steps of an answer.
      std::vector<DeviceLease> leases;
      for (uint32_t turn = 0; !stop; ++turn) {
        absl::StatusOr<DeviceLease> lease = internal::Session::Lease(session_, channel);
        if (lease.ok()) {
          leases.push_back(*std::move(lease));
          ++given;
        }
        if (told_none && !leases.empty()) ++wrong;
        if (!leases.empty() && leases.back().bytes()[kBytes - 1] != std::byte{1}) ++wrong;
        for (uint32_t spin = turn % 97; spin-- > 0;) ipc::SpinPause();
        if (!lease.ok() || leases.size() > 5) {
          if (!leases.empty()) leases.pop_back();
        }
      }
    });
  }
  for (uint64_t call = 1; call <= kRounds; ++call) {
    const uint64_t before = given;
    Until([&] { return given > before; });
    server_->SayClosing(1, call);
    EXPECT_TRUE(server_->AwaitLast(absl::StrCat("leases ", call, " of 1:")));
    if (HasFailure()) break;
    told_none = true;
    std::this_thread::yield();
    told_none = false;
    server_->SayKept(1);
  }
  server_->SayCloseImports(1);
  EXPECT_TRUE(server_->AwaitLast("closed 1"));
  EXPECT_EQ(Confirm(1), Verdict::kFreed);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// The server ends between any two steps of those who take and return leases.
TEST_F(DeviceLeases, TheServersEndRacesWithReleases) {
  for (int round = 0; round < 20; ++round) {
    server_ = std::make_unique<FakeServer>();
    heard_ = 0;
    Attach();
    Serve(1);
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        absl::StatusOr<DeviceLease> lease = absl::CancelledError();
        do {
          lease = internal::Session::Lease(session_, 1);
          EXPECT_TRUE(!lease.ok() || lease->bytes()[0] == std::byte{1});
        } while (lease.ok());
      });
    }
    server_->Die();
    for (std::thread& thread : threads) thread.join();
    Until([&] { return Confirm(1) == Verdict::kFreed; });
  }
}

// R12: in a child of the service it is the parent's.
TEST_F(DeviceLeases, AForkedChildHoldsNothing) {
  Attach();
  Serve(1);
  DeviceLease lease = Lease();
  const pid_t child = ::fork();
  if (child == 0) {
    int wrong = lease.bytes().empty() ? 0 : 1;
    wrong += absl::IsFailedPrecondition(channel_->LeaseDevice().status()) ? 0 : 2;
    lease = DeviceLease();
    channel_.reset();
    session_.reset();
    ::_exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  ExpectBytes(lease, 1);
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x1"));
  lease = DeviceLease();
  ASSERT_TRUE(Heard("leases 7 of 1:"));
}

}  // namespace
}  // namespace baton::test

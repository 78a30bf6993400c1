// Leases on device memory, `overlap` and overrides, with real servers and workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "tests/runtime/supervisor/supervisor_fixture.h"
#include "tests/system/system_test_base.h"

namespace baton::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Role = ControlClient::Role;

constexpr uint64_t kMiB = 1 << 20;

class SupervisorStrategyTest : public SupervisorFixture {
 protected:
  // A front with generation 1's arena.
  absl::StatusOr<ControlClient> DeviceFront(ipc::UniqueFd* arena = nullptr) {
    auto front = ControlClient::Open(run_directory_, "test", Role::FRONT, true);
    if (!front.ok()) return front;
    auto mapped = front->AcceptArena();
    if (!mapped.ok()) return mapped.status();
    if (arena != nullptr) *arena = *std::move(mapped);
    return front;
  }
  static absl::Status CloseImports(ControlClient& front, uint64_t generation) {
    auto close = front.Receive();
    if (!close.ok()) return close.status();
    if (!close->envelope().isCloseImports()) return absl::InternalError("no closeImports");
    return front.Send([&](auto to) { to.initImportsClosed().setGeneration(generation); });
  }
};

// ---- leases ----

TEST_F(SupervisorStrategyTest, ADrainNamesWhoHoldsLeasesAndKeepsTheOldGeneration) {
  WriteModel({"behaviour: env", "variable: TOKEN", absl::StrCat("weights_bytes: ", kMiB)},
             "reload:\n  drain_timeout: 300ms\n");
  Start();
  auto front = DeviceFront();
  ASSERT_TRUE(front.ok()) << front.status();
  auto asker = Client();
  ControlClient::Reloaded reloaded;
  std::thread reloader([&] { reloaded = asker.Reload(); });
  const auto call = front->AwaitClosing(/*count=*/2, /*channel=*/5);
  EXPECT_TRUE(call.ok()) << call.status();
  reloader.join();
  EXPECT_EQ(reloaded.outcome, "kept-old");
  EXPECT_THAT(reloaded.reason, HasSubstr(absl::StrCat("pid ", ::getpid(),
                                                      " holds device memory (2 "
                                                      "leases of channel 5)")));
  EXPECT_EQ(Status().generation, 1u);
  EXPECT_TRUE(Status().ready);
  const auto kept = front->Receive();
  ASSERT_TRUE(kept.ok());
  EXPECT_TRUE(kept->envelope().isGenerationKept());

  // Once they are returned, it goes through.
  std::thread again([&] { reloaded = asker.Reload(); });
  const auto second = front->AwaitClosing(1, 5);
  EXPECT_TRUE(second.ok());
  EXPECT_TRUE(WaitFor([&] { return Status().state == "DRAINING"; }));
  EXPECT_TRUE(front->AnswerLeases(*second, 1).ok());
  EXPECT_TRUE(CloseImports(*front, 1).ok());
  EXPECT_TRUE(front->AcceptArena().ok());
  again.join();
  EXPECT_EQ(reloaded.outcome, "swapped") << reloaded.reason;
}

TEST_F(SupervisorStrategyTest, ADrainNamesAFrontThatDoesNotAnswer) {
  WriteModel({"behaviour: echo", absl::StrCat("weights_bytes: ", kMiB)},
             "reload:\n  drain_timeout: 200ms\n");
  Start();
  auto front = DeviceFront();
  ASSERT_TRUE(front.ok()) << front.status();
  const auto reloaded = Client().Reload();
  EXPECT_EQ(reloaded.outcome, "kept-old");
  EXPECT_THAT(reloaded.reason, HasSubstr(absl::StrCat("pid ", ::getpid(), " has not answered")));
  EXPECT_TRUE(Status().ready);
}

// Whoever leaves holds nothing any more.
TEST_F(SupervisorStrategyTest, ADrainGoesOnWhenTheHolderLeaves) {
  WriteModel({"behaviour: echo", absl::StrCat("weights_bytes: ", kMiB)});
  Start();
  auto front = DeviceFront();
  ASSERT_TRUE(front.ok()) << front.status();
  auto asker = Client();
  ControlClient::Reloaded reloaded;
  std::thread reloader([&] { reloaded = asker.Reload(); });
  EXPECT_TRUE(front->AwaitClosing(2, 5).ok());
  EXPECT_TRUE(WaitFor([&] { return Status().state == "DRAINING"; }));
  front = absl::CancelledError();  // hangs up
  reloader.join();
  EXPECT_EQ(reloaded.outcome, "swapped") << reloaded.reason;
}

// A front that answers is alive: it is waited for, not cut off, when its worker has died.
TEST_F(SupervisorStrategyTest, AHolderOfADeadWorkersMemoryIsNotCutOff) {
  WriteModel({"behaviour: echo", absl::StrCat("weights_bytes: ", kMiB)},
             "reload:\n  close_timeout: 200ms\n  confirm_timeout: 200ms\n");
  Start();
  ipc::UniqueFd arena;
  auto front = DeviceFront(&arena);
  ASSERT_TRUE(front.ok()) << front.status();
  void* mapped = ::mmap(nullptr, kMiB, PROT_READ, MAP_SHARED, arena.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  arena.reset();
  ASSERT_EQ(::kill(Status().worker_pid, SIGKILL), 0);
  auto close = front->Receive();
  ASSERT_TRUE(close.ok() && close->envelope().isCloseImports());
  EXPECT_TRUE(front->AnswerLeases(0, 1, 1, 5).ok());
  const std::string verdict = absl::StrCat("pinned-by ", ::getpid());
  EXPECT_TRUE(WaitFor([&] { return Status().last_verdict == verdict; })) << Status().last_verdict;
  EXPECT_EQ(Status().fronts, 1u);
  ::munmap(mapped, kMiB);
  EXPECT_TRUE(front->Send([](auto to) { to.initImportsClosed().setGeneration(1); }).ok());
  EXPECT_TRUE(front->AcceptArena().ok());
  EXPECT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(Receipts().at(0).imports_cut_off, 0u);
}

// A15: a change that a drain kept from being loaded is loaded later, without another change.
TEST_F(SupervisorStrategyTest, A15_SecretsThatADrainHeldUpAreTriedAgain) {
  WriteSecret("old");
  WriteModel({"behaviour: env", "variable: TOKEN", absl::StrCat("weights_bytes: ", kMiB)},
             "reload:\n  drain_timeout: 200ms\n");
  Start();
  auto front = DeviceFront();
  ASSERT_TRUE(front.ok()) << front.status();
  WriteSecret("new");
  ASSERT_TRUE(front->AwaitClosing(1, 5).ok());
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_EQ(Receipts().at(0).outcome, "kept-old");
  EXPECT_THAT(Receipts().at(0).reason, HasSubstr("trying again in 200ms"));
  auto kept = front->Receive();
  ASSERT_TRUE(kept.ok() && kept->envelope().isGenerationKept());
  ASSERT_TRUE(front->AwaitClosing().ok());  // of itself
  ASSERT_TRUE(CloseImports(*front, 1).ok());
  ASSERT_TRUE(front->AcceptArena().ok());
  ASSERT_TRUE(WaitForReceipts(2));
  EXPECT_EQ(Receipts().at(1).outcome, "swapped");
  EXPECT_EQ(Receipts().at(1).trigger, "secrets");
  EXPECT_EQ(AskForSecret(), "new");
}

// ---- strategies ----

TEST_F(SupervisorStrategyTest, OverlapServesWhileTheSuccessorComesUpBesideIt) {
  WriteModel({"behaviour: env", "variable: TOKEN", absl::StrCat("weights_bytes: ", 8 * kMiB)},
             "limits: {device_capacity: 16MiB}\nreload:\n  strategy: overlap\n");
  Start();
  DeviceObserver observer(server_->pid());
  auto front = server_->Attach({.import_device = true});
  ASSERT_TRUE(front.ok()) << front.status();
  ASSERT_TRUE(WaitFor([&] { return (*front)->imported_generation() == 1; }));
  Load load(**front);
  ASSERT_TRUE(load.WaitForAnswers(10));
  for (uint64_t generation = 2; generation <= 4; ++generation) {
    const auto reloaded = Client().Reload();
    ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
    EXPECT_EQ(reloaded.outcome, "swapped");
    EXPECT_EQ(reloaded.verdict, "freed");
    EXPECT_EQ(reloaded.successor, generation);
    ASSERT_TRUE(load.WaitForAnswers(10));
    EXPECT_TRUE(WaitFor([&] { return (*front)->imported_generation() == generation; }));
  }
  load.Stop();
  observer.Stop();
  EXPECT_TRUE(load.errors().empty()) << load.errors().front();
  EXPECT_TRUE(std::is_sorted(
      load.changes().begin(), load.changes().end(),
      [](const EnvAnswer& a, const EnvAnswer& b) { return a.generation < b.generation; }));
  EXPECT_LE(observer.peak_arenas(), 2u);
  EXPECT_LE(observer.peak_bytes(), 16 * kMiB);
  EXPECT_THAT(server_->Receipts().at(0), HasSubstr("\"strategy\":\"overlap\""));
  EXPECT_THAT(Receipts().at(0).states,
              ElementsAre("STAGING", "ADMITTING", "REMAPPING", "HOLDING", "DRAINING", "CLOSING",
                          "EXITING", "CONFIRMING", "SERVING"));
  EXPECT_EQ(Receipts().at(0).after, 8 * kMiB);  // the successor's
}

TEST_F(SupervisorStrategyTest, A21_AutoIsExclusiveWhereTwoDoNotFit) {
  WriteModel({"behaviour: env", "variable: TOKEN", absl::StrCat("weights_bytes: ", 8 * kMiB)},
             "limits: {device_capacity: 15MiB}\nreload:\n  strategy: auto\n");
  Start();
  DeviceObserver observer(server_->pid());
  const auto reloaded = Client().Reload();
  ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
  observer.Stop();
  EXPECT_EQ(observer.peak_arenas(), 1u);
  const std::string receipt = server_->Receipts().at(0);
  EXPECT_THAT(receipt, HasSubstr("\"strategy\":\"exclusive\""));
  EXPECT_THAT(receipt, HasSubstr("does not fit twice"));
}

TEST_F(SupervisorStrategyTest, A19_ASuccessorThatFailsBesideCostsNoAvailability) {
  WriteSecret("good");
  WriteModel({"behaviour: env", "variable: TOKEN", absl::StrCat("weights_bytes: ", kMiB),
              "upload: crash", "only_if: TOKEN=bad"},
             "reload:\n  strategy: overlap\n");
  Start();
  auto front = server_->Attach();
  ASSERT_TRUE(front.ok()) << front.status();
  Load load(**front);
  ASSERT_TRUE(load.WaitForAnswers(10));
  WriteSecret("bad");
  ASSERT_TRUE(WaitForReceipts(2));  // of the failed generation, and of the reload
  ASSERT_TRUE(load.WaitForAnswers(10));
  load.Stop();
  EXPECT_TRUE(load.errors().empty()) << load.errors().front();
  EXPECT_EQ(Receipts().at(0).outcome, "failed");
  EXPECT_EQ(Receipts().at(0).verdict, "freed");
  EXPECT_EQ(Receipts().at(1).outcome, "kept-old");
  EXPECT_EQ(Receipts().at(1).gap_ns, 0u);
  EXPECT_EQ(AskForSecret(), "good");
  EXPECT_EQ(Status().device_bytes, kMiB);
}

// ---- overrides ----

TEST_F(SupervisorStrategyTest, A27_AnOverrideIsExplicitAndRecorded) {
  WriteModel({"behaviour: echo", absl::StrCat("weights_bytes: ", kMiB)},
             "reload:\n  close_timeout: 200ms\n  confirm_timeout: 200ms\n");
  Start();
  ipc::UniqueFd arena;
  auto front = DeviceFront(&arena);
  ASSERT_TRUE(front.ok()) << front.status();
  void* mapped = ::mmap(nullptr, kMiB, PROT_READ, MAP_SHARED, arena.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto asker = Client();
  ControlClient::Reloaded reloaded;
  std::thread reloader([&] { reloaded = asker.Reload(); });
  EXPECT_TRUE(front->AwaitClosing().ok());
  reloader.join();  // confirm_timeout
  EXPECT_EQ(reloaded.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Status().state, "CONFIRMING");
  EXPECT_EQ(Status().generation, 1u);  // nothing was admitted
  ASSERT_TRUE(Client()
                  .Send([](auto to) {
                    to.initReload().setTrigger("command");
                    to.getReload().setOverrideUnconfirmed(true);
                  })
                  .ok());
  EXPECT_TRUE(WaitFor([&] { return Status().ready && Status().generation >= 2; }));
  const std::string receipt = server_->Receipts().at(0);
  EXPECT_THAT(receipt, HasSubstr("\"overridden\":true"));
  EXPECT_THAT(receipt, HasSubstr(absl::StrCat("\"verdict\":\"pinned-by ", ::getpid(), "\"")));
  // What is pinned still counts as in use, until it is gone.
  EXPECT_EQ(Status().device_bytes, 2 * kMiB);
  ::munmap(mapped, kMiB);
  EXPECT_TRUE(WaitFor([&] { return Status().device_bytes == kMiB; }));
}

// ---- dry runs ----

TEST_F(SupervisorStrategyTest, ADryRunSaysWhatWouldHappenAndDoesNothing) {
  WriteSecret("a");
  WriteModel({"behaviour: env", "variable: TOKEN", absl::StrCat("weights_bytes: ", 8 * kMiB)},
             "limits: {device_capacity: 12MiB}\nreload: {strategy: auto, drain_timeout: 7s}\n");
  Start({"--disable-secrets-reload"});
  const auto plan = [&] { return *Client().Call([](auto to) { to.setPlanReload(); }); };
  {
    auto message = plan();
    ASSERT_TRUE(message.envelope().isReloadPlan());
    const auto reader = message.envelope().getReloadPlan();
    EXPECT_STREQ(reader.getStrategy().cStr(), "exclusive");
    EXPECT_THAT(reader.getStrategyReason().cStr(), HasSubstr("does not fit twice"));
    EXPECT_EQ(reader.getFootprintBytes(), 8 * kMiB);
    EXPECT_EQ(reader.getDeviceCapacityBytes(), 12 * kMiB);
    EXPECT_EQ(reader.getExpectedGapNs(), 0u);
    EXPECT_FALSE(reader.getSecretsChanged());
    EXPECT_EQ(reader.getObstacles().size(), 0u);
    EXPECT_EQ(reader.getDeadlines()[1].getNs(), 7'000'000'000u);
  }
  ASSERT_EQ(Client().Reload().outcome, "swapped");
  WriteSecret("b");
  WriteModel({"behaviour: env"}, "no_such_key: 1\n");
  auto message = plan();
  const auto reader = message.envelope().getReloadPlan();
  EXPECT_GT(reader.getExpectedGapNs(), 0u);
  EXPECT_THAT(reader.getGapSource().cStr(), HasSubstr("1 measured"));
  EXPECT_TRUE(reader.getSecretsChanged());
  ASSERT_EQ(reader.getObstacles().size(), 1u);
  EXPECT_THAT(reader.getObstacles()[0].cStr(), HasSubstr("no_such_key"));
  EXPECT_EQ(Status().generation, 2u);
  EXPECT_EQ(Receipts().size(), 1u);
}

// ---- a model that changes ----

TEST_F(SupervisorStrategyTest, AWatchedModelIsReloadedWhenItsFilesChange) {
  const std::string watch = "reload: {watch: true}\n";
  WriteModel({"behaviour: env", "variable: TOKEN", "load_ms: 1"}, watch);
  Start();
  WriteModel({"behaviour: env", "variable: TOKEN", "load_ms: 2"}, watch);
  EXPECT_TRUE(WaitForGeneration(2));
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_EQ(Receipts().at(0).trigger, "model");
  // One that cannot be loaded costs nothing.
  WriteModel({"behaviour: env", "variable: TOKEN", "load: fail"}, watch);
  ASSERT_TRUE(WaitForReceipts(2));
  EXPECT_EQ(Receipts().at(1).outcome, "kept-old");
  EXPECT_TRUE(Status().ready);
  EXPECT_EQ(Status().generation, 2u);
}

// ---- past the point of no return ----

TEST_F(SupervisorStrategyTest, TheLastGoodConfigurationServesAgainAfterTwoFailures) {
  const std::string good = absl::StrCat("weights_bytes: ", kMiB);
  WriteModel({"behaviour: echo", good});
  Start();
  // Staged well, fails when it is uploaded: the old one is gone by then.
  WriteModel({"behaviour: echo", good, "upload: fail"});
  const auto reloaded = Client().Reload();
  EXPECT_FALSE(reloaded.status.ok());
  EXPECT_TRUE(WaitFor([&] { return Status().ready && Status().generation > 2; }));
  EXPECT_EQ(Status().generation, 4u);
  EXPECT_THAT(Status().reason, HasSubstr("last good"));
}

}  // namespace
}  // namespace baton::testing

// Hand-over on a GPU, simulated: one model's memory at a time, and a verdict for every way of not
// knowing that it is gone (A20, A21, A27).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "tests/crash/front_process.h"
#include "tests/runtime/supervisor/control_client.h"
#include "tests/system/device_under_test.h"
#include "tests/system/system_test_base.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kWeights = 64 * kMiB;

class GpuVerdictsTest : public SystemTest {
 protected:
  void ServeOnGpu(const std::string& behaviour = "env",
                  const std::string& reload =
                      "confirm_timeout: 300ms, close_timeout: 300ms, "
                      "helper_timeout: 1s") {
    ASSERT_NE(SimulatedGpu(), nullptr);
    Serve({absl::StrCat("behaviour: ", behaviour), "variable: API_KEY", "ms: 1",
           absl::StrCat("weights_bytes: ", kWeights)},
          absl::StrCat("reload: {", reload, "}\n"));
    ASSERT_NE(server_, nullptr);
    ASSERT_TRUE(WaitFor([&] { return front_->imported_generation() == 1; }));
  }
  ControlClient Client() const {
    absl::StatusOr<ControlClient> client = ControlClient::Open(options_.run_directory, "test");
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  ControlClient::ServerStatus Status() const { return Client().Status(); }
  bool AwaitVerdict(const std::string& verdict) const {
    return WaitFor([&] {
      const ControlClient::ServerStatus status = Status();
      return status.state == "CONFIRMING" && status.last_verdict == verdict;
    });
  }
  // A reload that is under way while the test goes on. Whoever asked is told when it takes long;
  // it goes on all the same.
  void StartReload() {
    reload_ = std::thread([this] { static_cast<void>(Client().Reload()); });
  }
  void ExpectSwapped() {
    ASSERT_TRUE(WaitForGeneration(2));
    ASSERT_TRUE(WaitForReceipts(1));
    EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"outcome\":\"swapped\""));
    EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"verdict\":\"freed\""));
  }
  // Nobody holds memory but the one that is to be gone.
  static void ExpectNothingNewIsAllocated() {
    uint64_t alive = 0;
    for (const SimGpu::Allocation& allocation : SimulatedGpu()->Allocations()) {
      alive += allocation.tearing_down ? 0 : allocation.bytes;
    }
    EXPECT_LE(alive, kWeights);
    EXPECT_EQ(SimulatedGpu()->PeakBytes(), kWeights);
  }
  void TearDown() override {
    if (SimulatedGpu() == nullptr) return;
    for (const char* knob :
         {"hold_teardown", "nvml_hang", "nvml_fail", "nvml_hide_pids", "memory_unknown",
          "foreign_bytes", "capacity_bytes", "context_bytes"}) {
      SimulatedGpu()->ClearKnob(knob);
    }
    if (reload_.joinable()) reload_.join();
  }

  std::thread reload_;
};

// A20, A21: an implementation that overlaps would fail with the first one.
TEST_F(GpuVerdictsTest, AHundredReloadsWhereOneModelAndAFifthFit) {
  ASSERT_NE(SimulatedGpu(), nullptr);
  constexpr uint64_t kContext = 32 * kMiB;
  SimulatedGpu()->SetKnob("context_bytes", kContext);
  // The front of this test has a context, too.
  SimulatedGpu()->SetKnob("capacity_bytes", 2 * kContext + kWeights + kWeights / 5);
  ServeOnGpu();
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok());
  for (uint64_t reload = 1; reload <= 100; ++reload) {
    const ControlClient::Reloaded reloaded = Client().Reload();
    ASSERT_TRUE(reloaded.status.ok()) << reload << ": " << reloaded.status;
    ASSERT_EQ(reloaded.outcome, "swapped") << reload << ": " << reloaded.reason;
    ASSERT_EQ(reloaded.verdict, "freed");
    const absl::StatusOr<EnvAnswer> answer = AskEnv(*channel);
    ASSERT_TRUE(answer.ok()) << answer.status();
    ASSERT_EQ(answer->generation, reload + 1);
  }
  EXPECT_EQ(SimulatedGpu()->PeakBytes(), kWeights);
  EXPECT_THAT(SimulatedGpu()->Allocations(), SizeIs(1));
  EXPECT_THAT(server_->Receipts().back(), HasSubstr("NVML process list + free memory"));
}

TEST_F(GpuVerdictsTest, A27_AnImporterThatDoesNotCloseIsNamedAndNothingIsAllocated) {
  ServeOnGpu("slow");
  FrontProcess importer(temp_, options_.run_directory, temp_.path(), 1, {}, {.in_flight = 1});
  ASSERT_TRUE(WaitFor([&] { return importer.tally().answered.load() > 0; }));
  ASSERT_EQ(::kill(importer.pid(), SIGSTOP), 0);
  ASSERT_TRUE(WaitFor([&] { return IsStopped(importer.pid()); }));
  ASSERT_EQ(::kill(server_->Workers().front(), SIGKILL), 0);
  ASSERT_TRUE(AwaitVerdict(absl::StrCat("pinned-by ", importer.pid())));
  ExpectNothingNewIsAllocated();
  EXPECT_EQ(front_->generation(), 1u);
  ASSERT_EQ(::kill(importer.pid(), SIGKILL), 0);
  ASSERT_TRUE(WaitForGeneration(2));
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"verdict\":\"freed\""));
  EXPECT_EQ(SimulatedGpu()->PeakBytes(), kWeights);
}

TEST_F(GpuVerdictsTest, A27_WhatTheDriverHoldsIsWaitedFor) {
  ServeOnGpu();
  SimulatedGpu()->SetKnob("hold_teardown", "1");
  ASSERT_EQ(::kill(server_->Workers().front(), SIGKILL), 0);
  ASSERT_TRUE(AwaitVerdict("driver-held"));
  ExpectNothingNewIsAllocated();
  SimulatedGpu()->ClearKnob("hold_teardown");
  ASSERT_TRUE(WaitForGeneration(2));
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"verdict\":\"freed\""));
}

TEST_F(GpuVerdictsTest, A27_AnNvmlThatHangsIsUnknownAndHoldsNobodyUp) {
  ServeOnGpu();
  SimulatedGpu()->SetKnob("nvml_hang", "1");
  StartReload();
  ASSERT_TRUE(AwaitVerdict("unknown"));
  ExpectNothingNewIsAllocated();
  EXPECT_EQ(Status().state, "CONFIRMING") << "the supervisor answers";
  SimulatedGpu()->ClearKnob("nvml_hang");
  ExpectSwapped();
}

// A front's context may be as large as the arena: what was known before it came cannot tell one
// from the other.
class GpuNewcomerTest : public GpuVerdictsTest {
 protected:
  // Serves, and has two more fronts map while NVML does not answer: their contexts take as much as
  // the worker's end gives back.
  void ServeAndMapUnseen() {
    ASSERT_NE(SimulatedGpu(), nullptr);
    SimulatedGpu()->SetKnob("context_bytes", kWeights);
    ServeOnGpu("slow", "confirm_timeout: 300ms, helper_timeout: 60s");
    ASSERT_NE(server_, nullptr);
    ASSERT_TRUE(LogSays("who uses the GPU of generation 1"));
    SimulatedGpu()->SetKnob("nvml_hang", "1");
    for (int number : {1, 2}) {
      newcomers_.push_back(std::make_unique<FrontProcess>(
          temp_, options_.run_directory, temp_.path(), number, std::map<std::string, std::string>{},
          FrontLoad{.in_flight = 1}));
    }
    ASSERT_TRUE(NewcomersGoOn());
  }
  bool NewcomersGoOn() const { return newcomers_[0]->Progress(3) && newcomers_[1]->Progress(3); }
  bool LogSays(const std::string& words) const {
    return WaitFor([&] { return absl::StrContains(server_->Log(), words); });
  }

  std::vector<std::unique_ptr<FrontProcess>> newcomers_;
};

TEST_F(GpuNewcomerTest, AReloadWaitsForItToBeSeen) {
  ASSERT_NO_FATAL_FAILURE(ServeAndMapUnseen());
  StartReload();
  // Staged, and nothing more.
  ASSERT_TRUE(WaitFor([&] { return server_->Workers().size() == 2; }));
  ASSERT_TRUE(NewcomersGoOn());
  EXPECT_EQ(Status().state, "STAGING");
  SimulatedGpu()->ClearKnob("nvml_hang");
  ExpectSwapped();
  EXPECT_TRUE(NewcomersGoOn()) << "its end is not what it took";
  EXPECT_EQ(SimulatedGpu()->PeakBytes(), kWeights);
}

TEST_F(GpuNewcomerTest, AStopWaitsForItToBeSeen) {
  ASSERT_NO_FATAL_FAILURE(ServeAndMapUnseen());
  std::thread stop([&] { static_cast<void>(server_->Stop()); });
  EXPECT_TRUE(LogSays("waits for NVML"));
  EXPECT_TRUE(NewcomersGoOn()) << "it serves meanwhile";
  SimulatedGpu()->ClearKnob("nvml_hang");
  stop.join();
  EXPECT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().back(), HasSubstr("\"outcome\":\"stopped\""));
  EXPECT_THAT(server_->Receipts().back(), HasSubstr("\"verdict\":\"freed\""));
}

TEST_F(GpuVerdictsTest, A27_WhereNoPidIsVisibleATrialAllocationHasTheLastWord) {
  ASSERT_NE(SimulatedGpu(), nullptr);
  SimulatedGpu()->SetKnob("nvml_hide_pids", "1");
  ServeOnGpu();
  const uint64_t contexts = SimulatedGpu()->ContextBytes();
  StartReload();
  ExpectSwapped();
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("trial allocation of"));
  EXPECT_EQ(SimulatedGpu()->ContextBytes(), contexts) << "the trial's has stayed";
}

TEST_F(GpuVerdictsTest, A27_AForeignTenantThatHasGrownIsNamed) {
  ServeOnGpu();
  // Nothing but what the old one gives back is left for the new one, and less than that.
  SimulatedGpu()->SetKnob("foreign_pid", uint64_t{1});
  const uint64_t this_front = SimulatedGpu()->ContextBytes() / 2;
  SimulatedGpu()->SetKnob("foreign_bytes", (uint64_t{16} << 30) - this_front - kWeights / 2);
  StartReload();
  ASSERT_TRUE(AwaitVerdict("unknown"));
  ASSERT_TRUE(WaitFor([&] { return absl::StrContains(Status().reason, "pid 1"); }))
      << Status().reason;
  ExpectNothingNewIsAllocated();
  SimulatedGpu()->ClearKnob("foreign_bytes");
  ExpectSwapped();
}

}  // namespace
}  // namespace baton::testing

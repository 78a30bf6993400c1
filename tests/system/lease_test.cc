// Leases on device memory, end to end: a service that holds one, a supervisor that waits for it,
// and a worker whose memory it is. Every way to race is in
// tests/runtime/front/device_lease_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/system/system_test_base.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kWeights = 1 << 20;

class LeaseTest : public SystemTest {
 protected:
  // Serves, imports generation 1 and opens the server's first channel.
  void ServeAndLease(const std::string& config) {
    SetSecret("API_KEY", "first");
    Serve({"behaviour: env", "variable: API_KEY", absl::StrCat("weights_bytes: ", kWeights)},
          config);
    FrontOptions options;
    options.import_device = true;
    options.on_generation = [this](GenerationEvent event, uint64_t generation) {
      if (event == GenerationEvent::kClosing) told_closing_ = generation;
    };
    // In the place of the one that Serve attached.
    absl::StatusOr<std::unique_ptr<Front>> front = server_->Attach(options);
    ASSERT_TRUE(front.ok()) << front.status();
    front_ = *std::move(front);
    ASSERT_TRUE(WaitFor([&] { return front_->imported_generation() == 1; }));
    absl::StatusOr<Channel> channel = front_->OpenChannel();
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_.emplace(*std::move(channel));
    for (int i = 0; i < 2; ++i) {
      leases_.push_back(Lease());
      bytes_.assign(leases_.back().bytes().begin(), leases_.back().bytes().end());
    }
  }
  DeviceLease Lease() {
    absl::StatusOr<DeviceLease> lease = channel_->LeaseDevice();
    EXPECT_TRUE(lease.ok()) << lease.status();
    return lease.ok() ? *std::move(lease) : DeviceLease();
  }
  void ExpectStillThere() {
    for (const DeviceLease& lease : leases_) {
      EXPECT_EQ(lease.generation(), 1u);
      EXPECT_TRUE(std::ranges::equal(lease.bytes(), bytes_));
    }
  }

  std::atomic<uint64_t> told_closing_{0};
  std::optional<Channel> channel_;
  std::vector<DeviceLease> leases_;
  std::vector<std::byte> bytes_;
};

TEST_F(LeaseTest, ADrainThatMeetsALeaseGivesUpAndNamesTheHolder) {
  ServeAndLease("reload: {drain_timeout: 200ms}\n");
  SetSecret("API_KEY", "second");
  ASSERT_TRUE(WaitForReceipts(1));
  const std::string receipt = server_->Receipts().front();
  EXPECT_THAT(receipt, HasSubstr("\"outcome\":\"kept-old\""));
  EXPECT_THAT(receipt, HasSubstr(absl::StrCat("pid ", ::getpid(),
                                              " holds device memory (2 leases of channel 1)")));
  EXPECT_EQ(told_closing_, 1u);
  // Nothing was lost by it: generation 1 answers, and gives leases, sooner or later.
  EXPECT_TRUE(AskEnv(*channel_).ok());
  ExpectStillThere();
  // What was to be loaded is tried again; with the leases returned it goes through.
  leases_.clear();
  ASSERT_TRUE(WaitForGeneration(2));
  const absl::StatusOr<EnvAnswer> answer = AskEnv(*channel_);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->value, "second");
  EXPECT_EQ(Lease().generation(), answer->generation);
}

TEST_F(LeaseTest, ALeaseReturnedInTimeDelaysAReloadAndNoMore) {
  ServeAndLease("reload: {drain_timeout: 60s}\n");
  SetSecret("API_KEY", "second");
  ASSERT_TRUE(WaitFor([&] { return told_closing_ == 1; }));
  ASSERT_TRUE(WaitFor([&] { return front_->state() == "DRAINING"; }));
  EXPECT_EQ(front_->closing_generation(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(channel_->LeaseDevice().status()));
  ExpectStillThere();
  leases_.pop_back();
  EXPECT_EQ(front_->state(), "DRAINING");  // one is left
  leases_.clear();
  ASSERT_TRUE(WaitForGeneration(2));
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"outcome\":\"swapped\""));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"verdict\":\"freed\""));
  EXPECT_EQ(front_->closing_generation(), 0u);
  EXPECT_EQ(Lease().generation(), 2u);
}

// Who says what it holds is not cut off; the successor waits for the memory.
TEST_F(LeaseTest, ALeaseOfADeadWorkersMemoryIsWaitedFor) {
  ServeAndLease("reload: {close_timeout: 200ms, confirm_timeout: 200ms}\n");
  ASSERT_EQ(server_->Workers().size(), 1u);
  ASSERT_EQ(::kill(server_->Workers().front(), SIGKILL), 0);
  ASSERT_TRUE(WaitFor([&] { return told_closing_ == 1; }));
  ASSERT_TRUE(WaitFor([&] { return front_->state() == "CONFIRMING"; }));
  ExpectStillThere();
  EXPECT_EQ(front_->generation(), 1u);
  leases_.clear();
  ASSERT_TRUE(WaitForGeneration(2));
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"verdict\":\"freed\""));
  ASSERT_TRUE(WaitFor([&] { return front_->imported_generation() == 2; }));  // not cut off
  EXPECT_EQ(Lease().generation(), 2u);
}

TEST_F(LeaseTest, TwoGenerationsAreLeasedAtOnceInAnOverlap) {
  ServeAndLease("limits: {device_capacity: 16MiB}\nreload: {strategy: overlap}\n");
  SetSecret("API_KEY", "second");
  // The old one is leaving, which takes as long as its leases; the new one serves.
  ASSERT_TRUE(WaitFor([&] {
    const absl::StatusOr<EnvAnswer> answer = AskEnv(*channel_);
    return answer.ok() && answer->generation == 2;
  }));
  // The front maps its arena a little later than it answers.
  std::optional<DeviceLease> lease;
  ASSERT_TRUE(WaitFor([&] {
    lease.reset();
    lease = Lease();
    return lease->generation() == 2;
  }));
  const DeviceLease next = *std::move(lease);
  EXPECT_EQ(next.bytes().size(), leases_.front().bytes().size());
  ExpectStillThere();
  EXPECT_EQ(server_->Receipts().size(), 0u);
  leases_.clear();
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"verdict\":\"freed\""));
}

// The server's end takes neither the mapping nor the service.
TEST_F(LeaseTest, ALeaseOutlivesTheServerAndTheFront) {
  ServeAndLease("");
  ASSERT_EQ(::kill(server_->pid(), SIGKILL), 0);
  ASSERT_TRUE(WaitFor([&] { return front_->state() == "GONE"; }));
  EXPECT_TRUE(absl::IsUnavailable(channel_->LeaseDevice().status()));
  channel_.reset();
  front_.reset();
  ExpectStillThere();
}

}  // namespace
}  // namespace baton::testing

// Results that stay on the device, end to end: where they lie, what a reload owes them, and whose
// memory they get. On the host device, whose memory a test can look into.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/system/control_system_test.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSlice = 64 * 1024;
constexpr char kLimits[] = "limits: {device_results: 256KiB}\n";

class DeviceResultsTest : public ControlSystemTest {
 protected:
  // The probe "echo", with a megabyte of weights behind the results.
  void ServeEcho(const std::string& config = kLimits) {
    Serve({"behaviour: echo", "weights_bytes: 1048576"}, config);
    ASSERT_NE(front_, nullptr);
    channel_.emplace(Open());
  }
  Channel Open(uint64_t slice = kSlice) {
    absl::StatusOr<Channel> channel = front_->OpenChannel({.device_result_bytes = slice});
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }
  static absl::StatusOr<Request> Ask(Channel& channel, const std::vector<uint8_t>& data) {
    const TensorSpec inputs[] = {{"data", DType::kUInt8, {static_cast<int64_t>(data.size())}}};
    const absl::StatusOr<RequestPlan> plan = channel.PlanOnDevice(inputs);
    if (!plan.ok()) return plan.status();
    absl::StatusOr<Request> request = channel.Loan(*plan);
    if (request.ok()) std::ranges::copy(data, request->input<uint8_t>(0).begin());
    return request;
  }
  static absl::StatusOr<Response> Call(Channel& channel, const std::vector<uint8_t>& data) {
    absl::StatusOr<Request> request = Ask(channel, data);
    if (!request.ok()) return request.status();
    return channel.Call(*std::move(request), {.timeout = absl::Minutes(1)});
  }
  static void ExpectHolds(const Response& response, const std::vector<uint8_t>& data) {
    EXPECT_TRUE(std::ranges::equal(response.output<uint8_t>("data"), data));
  }
  // Submits and waits until the worker has answered, without reading the answer.
  void LeaveUnread(const std::vector<uint8_t>& data) {
    const uint64_t before = Completed();
    absl::StatusOr<Request> request = Ask(*channel_, data);
    ASSERT_TRUE(request.ok()) << request.status();
    ASSERT_TRUE(channel_->Submit(*std::move(request), {.timeout = absl::Minutes(5)}).ok());
    ASSERT_TRUE(WaitFor([&] { return Completed() > before; }));
  }
  // What workers have completed.
  uint64_t Completed() const { return Status().completed; }
  Response ReadUnread() {
    std::optional<Outcome> outcome = channel_->Wait(absl::Minutes(1));
    EXPECT_TRUE(outcome.has_value() && outcome->response.ok());
    return *std::move(outcome->response);
  }

  std::optional<Channel> channel_;
};

TEST_F(DeviceResultsTest, TheyAreReadWhereTheWorkerWroteThem) {
  ServeEcho();
  const absl::StatusOr<DeviceLease> lease = channel_->LeaseDevice();
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_GE(lease->size_bytes(), (256u << 10) + (1u << 20));
  for (const size_t bytes : {size_t{1}, size_t{777}, size_t{4096}, size_t{20000}}) {
    const std::vector<uint8_t> data = Pattern(bytes, static_cast<uint8_t>(bytes));
    const absl::StatusOr<Response> response = Call(*channel_, data);
    ASSERT_TRUE(response.ok()) << response.status();
    ExpectHolds(*response, data);
    const TensorView& view = response->outputs()[0];
    EXPECT_GE(view.bytes.data(), lease->bytes().data());
    EXPECT_LE(view.bytes.data() + view.bytes.size(), lease->bytes().data() + kSlice);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.bytes.data()) % 128, 0u);
  }
}

// On the host they still go where they always went.
TEST_F(DeviceResultsTest, OneChannelHasBothKinds) {
  ServeEcho();
  const std::vector<uint8_t> data = Pattern(500, 3);
  for (int i = 0; i < 10; ++i) {
    const absl::StatusOr<Response> there = Call(*channel_, data);
    ASSERT_TRUE(there.ok()) << there.status();
    absl::StatusOr<Request> request = channel_->NewRequest({{"data", DType::kUInt8, {500}}});
    ASSERT_TRUE(request.ok());
    std::ranges::copy(data, request->input<uint8_t>(0).begin());
    const absl::StatusOr<Response> here = channel_->Call(*std::move(request));
    ASSERT_TRUE(here.ok()) << here.status();
    ExpectHolds(*there, data);
    ExpectHolds(*here, data);
    EXPECT_NE(there->outputs()[0].bytes.data(), here->outputs()[0].bytes.data());
  }
}

// The first block is 32 KiB, half the slice; what does not fit is asked for again.
TEST_F(DeviceResultsTest, AResultThatDoesNotFitGetsALargerBlock) {
  ServeEcho();
  const std::vector<uint8_t> data = Pattern(50000, 9);
  const absl::StatusOr<Response> response = Call(*channel_, data);
  ASSERT_TRUE(response.ok()) << response.status();
  ExpectHolds(*response, data);
  const absl::StatusOr<Response> too_large = Call(*channel_, Pattern(kSlice + 1, 0));
  EXPECT_TRUE(absl::IsResourceExhausted(too_large.status())) << too_large.status();
  EXPECT_THAT(too_large.status().ToString(), HasSubstr("device_result_bytes"));
}

TEST_F(DeviceResultsTest, AHeldResultKeepsItsGenerationAndIsNamed) {
  ServeEcho(absl::StrCat(kLimits, "reload: {drain_timeout: 200ms}\n"));
  const std::vector<uint8_t> data = Pattern(3000, 1);
  absl::StatusOr<Response> response = Call(*channel_, data);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_FALSE(Reload().ok());
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"outcome\":\"kept-old\""));
  EXPECT_THAT(
      server_->Receipts().front(),
      HasSubstr(absl::StrCat("pid ", ::getpid(), " holds device memory (1 lease of channel")));
  ExpectHolds(*response, data);
  *response = Response();
  ASSERT_TRUE(Reload().ok());
  const absl::StatusOr<Response> next = Call(*channel_, data);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_GT(next->generation(), 1u);
  ExpectHolds(*next, data);
}

TEST_F(DeviceResultsTest, AnAnswerThatNobodyHasReadKeepsItsGeneration) {
  ServeEcho(absl::StrCat(kLimits, "reload: {drain_timeout: 200ms}\n"));
  const std::vector<uint8_t> data = Pattern(3000, 5);
  LeaveUnread(data);
  ASSERT_FALSE(Reload().ok());
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("holds device memory (1 lease of channel"));
  {
    const Response response = ReadUnread();
    EXPECT_EQ(response.generation(), 1u);
    ExpectHolds(response, data);
  }
  ASSERT_TRUE(Reload().ok());
  EXPECT_GT(Generation(), 1u);
}

// Completed and unread means delivered, whatever has become of the worker.
TEST_F(DeviceResultsTest, ADeadWorkersAnswerIsDelivered) {
  ServeEcho();
  const std::vector<uint8_t> data = Pattern(3000, 7);
  LeaveUnread(data);
  ASSERT_EQ(server_->Workers().size(), 1u);
  ASSERT_EQ(::kill(server_->Workers().front(), SIGKILL), 0);
  ASSERT_TRUE(WaitFor([&] { return front_->state() != "SERVING"; }));
  {
    const Response response = ReadUnread();
    EXPECT_EQ(response.generation(), 1u);
    ExpectHolds(response, data);
    EXPECT_EQ(Generation(), 1u) << "its memory is not to be had yet";
  }
  ASSERT_TRUE(WaitForGeneration(2));
  const absl::StatusOr<Response> next = Call(*channel_, data);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->generation(), 2u);
}

// What waits across a reload finds its block in the next generation's arena.
TEST_F(DeviceResultsTest, ReloadsUnderLoadLoseNothing) {
  ServeEcho();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> answered{0};
  std::vector<std::string> wrong;
  std::thread load([&] {
    for (uint8_t round = 0; !stop.load() && wrong.empty(); ++round) {
      const std::vector<uint8_t> data = Pattern(1 + round * 16u, round);
      const absl::StatusOr<Response> response = Call(*channel_, data);
      if (!response.ok()) {
        wrong.push_back(response.status().ToString());
      } else if (!std::ranges::equal(response->output<uint8_t>("data"), data)) {
        wrong.push_back("another result");
      }
      answered.fetch_add(1);
    }
  });
  for (uint64_t reload = 1; reload <= 10; ++reload) {
    const uint64_t goal = answered.load() + 20;
    ASSERT_TRUE(WaitFor([&] { return answered.load() >= goal; }));
    const absl::Status status = Reload();
    EXPECT_TRUE(status.ok()) << status;
  }
  stop.store(true);
  load.join();
  EXPECT_THAT(wrong, ::testing::IsEmpty());
  EXPECT_EQ(Generation(), 11u);
}

TEST_F(DeviceResultsTest, OverlapWaitsForWhatTheOldOneHasAnswered) {
  ServeEcho(
      "limits: {device_results: 256KiB, device_capacity: 16MiB}\n"
      "reload: {strategy: overlap}\n");
  const std::vector<uint8_t> data = Pattern(3000, 11);
  absl::StatusOr<Response> old = Call(*channel_, data);
  ASSERT_TRUE(old.ok()) << old.status();
  absl::Status reloaded;
  std::thread reload([&] { reloaded = Reload(); });
  absl::StatusOr<Response> next = absl::UnknownError("not asked");
  EXPECT_TRUE(WaitFor([&] {
    next = absl::UnknownError("not asked");  // its block goes first
    next = Call(*channel_, data);
    return !next.ok() || next->generation() == 2;
  }));
  EXPECT_TRUE(next.ok()) << next.status();
  ExpectHolds(*old, data);
  if (next.ok()) ExpectHolds(*next, data);
  EXPECT_EQ(server_->Receipts().size(), 0u) << "it has left, although its result is held";
  *old = Response();
  reload.join();
  EXPECT_TRUE(reloaded.ok()) << reloaded;
  if (next.ok()) ExpectHolds(*next, data);
}

TEST_F(DeviceResultsTest, SlicesDoNotOverlapAndComeBack) {
  ServeEcho();
  std::vector<Channel> channels;
  std::vector<Response> responses;
  for (uint8_t i = 0; i < 3; ++i) {
    channels.push_back(Open());
    absl::StatusOr<Response> response = Call(channels.back(), Pattern(30000, i));
    ASSERT_TRUE(response.ok()) << response.status();
    responses.push_back(*std::move(response));
  }
  const absl::StatusOr<Channel> one_more = front_->OpenChannel({.device_result_bytes = kSlice});
  EXPECT_TRUE(absl::IsResourceExhausted(one_more.status())) << one_more.status();
  EXPECT_THAT(one_more.status().ToString(), HasSubstr("limits.device_results"));
  for (uint8_t i = 0; i < 3; ++i) ExpectHolds(responses[i], Pattern(30000, i));
  // A response outlives its channel, and so does its memory.
  channels.clear();
  EXPECT_FALSE(front_->OpenChannel({.device_result_bytes = kSlice}).ok());
  for (uint8_t i = 0; i < 3; ++i) ExpectHolds(responses[i], Pattern(30000, i));
  responses.clear();
  ASSERT_TRUE(WaitFor([&] { return front_->OpenChannel({.device_result_bytes = kSlice}).ok(); }));
}

TEST_F(DeviceResultsTest, WhatCannotBeHadSaysWhy) {
  ServeEcho();
  absl::StatusOr<std::unique_ptr<Front>> blind = server_->Attach();
  ASSERT_TRUE(blind.ok());
  const absl::StatusOr<Channel> unmapped = (*blind)->OpenChannel({.device_result_bytes = kSlice});
  EXPECT_TRUE(absl::IsFailedPrecondition(unmapped.status())) << unmapped.status();
  EXPECT_THAT(unmapped.status().ToString(), HasSubstr("import_device"));
  absl::StatusOr<Channel> plain = front_->OpenChannel();
  ASSERT_TRUE(plain.ok());
  const TensorSpec inputs[] = {{"data", DType::kUInt8, {8}}};
  EXPECT_THAT(plain->PlanOnDevice(inputs).status().ToString(), HasSubstr("device_result_bytes"));
  EXPECT_TRUE(absl::IsInvalidArgument(front_->OpenChannel({.device_result_bytes = 1000}).status()));
  EXPECT_TRUE(
      absl::IsResourceExhausted(front_->OpenChannel({.device_result_bytes = 1 << 30}).status()));
}

// Channels have their slices for as long as they live.
TEST_F(DeviceResultsTest, ASuccessorWithLessRoomIsNotTaken) {
  ServeEcho();
  ProbeModel(temp_, {"behaviour: echo", "weights_bytes: 1048576"},
             "limits: {device_results: 4KiB}\n");
  const absl::Status status = Reload();
  EXPECT_THAT(status.ToString(), HasSubstr("limits.device_results"));
  const std::vector<uint8_t> data = Pattern(3000, 2);
  const absl::StatusOr<Response> response = Call(*channel_, data);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->generation(), 1u);
}

}  // namespace
}  // namespace baton::testing

// Inputs that lie on the device, end to end: what a model makes of them, and what reloads and
// deaths do to those that wait. On the host device, and on a simulated GPU by both transports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/system/control_system_test.h"
#include "tests/system/device_bytes.h"
#include "tests/system/device_under_test.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSlice = 64 * 1024;
constexpr PlanOptions kInputs = {.inputs_on_device = true};
// Blocks small enough that some wait at once.
constexpr PlanOptions kBoth = {
    .response_bytes = 8192, .inputs_on_device = true, .results_on_device = true};

// By transport. To the host device they are the same: there the cases run with the first alone
// (CMakeLists.txt).
class DeviceInputsTest : public ControlSystemTest,
                         public ::testing::WithParamInterface<const char*> {
 protected:
  std::string Config(const std::string& limits, const std::string& more) const {
    return absl::StrCat("device_transport: ", GetParam(), "\nlimits: {device_results: 256KiB, ",
                        "device_inputs: 256KiB", limits, "}\n", more);
  }
  void ServeProbe(const std::string& behaviour, const std::string& more = "",
                  const std::string& limits = "") {
    Serve({absl::StrCat("behaviour: ", behaviour), "ms: 100", "weights_bytes: 1048576"},
          Config(limits, more));
    ASSERT_NE(front_, nullptr);
    absl::StatusOr<Channel> channel =
        front_->OpenChannel({.device_result_bytes = kSlice, .device_input_bytes = kSlice});
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_.emplace(*std::move(channel));
  }
  absl::StatusOr<Request> Fill(const std::vector<uint8_t>& data, const PlanOptions& options) {
    const TensorSpec inputs[] = {{"data", DType::kUInt8, {static_cast<int64_t>(data.size())}}};
    const absl::StatusOr<RequestPlan> plan = channel_->Plan(inputs, options);
    if (!plan.ok()) return plan.status();
    absl::StatusOr<Request> request = channel_->Loan(*plan);
    if (!request.ok()) return request.status();
    if (absl::Status written = WriteInput(*request, 0, data); !written.ok()) return written;
    return request;
  }
  // Again, where a reload is under way.
  absl::StatusOr<Request> FillWhenOpen(const std::vector<uint8_t>& data,
                                       const PlanOptions& options) {
    absl::StatusOr<Request> request = absl::UnknownError("not asked");
    WaitFor([&] {
      request = Fill(data, options);
      return !absl::IsUnavailable(request.status());
    });
    return request;
  }
  absl::StatusOr<Response> Call(const std::vector<uint8_t>& data, const PlanOptions& options) {
    absl::StatusOr<Request> request = FillWhenOpen(data, options);
    if (!request.ok()) return request.status();
    return channel_->Call(*std::move(request), {.timeout = absl::Minutes(1)});
  }
  void Submit(absl::StatusOr<Request> request, const std::vector<uint8_t>& data,
              bool idempotent = false) {
    ASSERT_TRUE(request.ok()) << request.status();
    const absl::StatusOr<Ticket> ticket = channel_->Submit(
        *std::move(request), {.timeout = absl::Minutes(2), .idempotent = idempotent});
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    waiting_[ticket->id] = data;
  }
  void Submit(const std::vector<uint8_t>& data, const PlanOptions& options,
              bool idempotent = false) {
    Submit(Fill(data, options), data, idempotent);
  }
  static void ExpectHolds(const Response& response, const std::vector<uint8_t>& data) {
    ASSERT_EQ(response.outputs().size(), 1u);
    const absl::StatusOr<std::vector<uint8_t>> bytes = ReadTensor(response.outputs()[0]);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_TRUE(*bytes == data);
  }
  void Take(const Outcome& outcome, uint64_t* last) {
    EXPECT_TRUE(outcome.response.ok()) << outcome.response.status();
    if (outcome.response.ok()) {
      ExpectHolds(*outcome.response, waiting_[outcome.ticket.id]);
      *last = std::max(*last, outcome.response->generation());
    }
    waiting_.erase(outcome.ticket.id);
  }
  // Takes the answers of all that was submitted; the last generation that gave one.
  uint64_t ExpectAllAnswered() {
    uint64_t last = 0;
    while (!waiting_.empty()) {
      const std::optional<Outcome> outcome = channel_->Wait(absl::Minutes(2));
      if (!outcome) {
        ADD_FAILURE() << waiting_.size() << " have not ended";
        return last;
      }
      Take(*outcome, &last);
    }
    return last;
  }
  // Has some requests wait all the time, until the next generation has answered one.
  void ReloadWhileSomeWait() {
    absl::Status reloaded;
    std::thread reload([&] { reloaded = Reload(); });
    uint64_t last = 0;
    uint8_t round = 0;
    while (last < 2 && !HasFailure()) {
      while (waiting_.size() < 6 && !HasFailure()) {
        const std::vector<uint8_t> data = Pattern(1000 + 97u * (round % 32), round);
        absl::StatusOr<Request> request = Fill(data, round % 2 == 0 ? kInputs : kBoth);
        if (absl::IsUnavailable(request.status())) break;  // it is under way
        Submit(std::move(request), data);
        ++round;
      }
      if (const auto outcome = channel_->Wait(absl::Milliseconds(50))) Take(*outcome, &last);
    }
    ExpectAllAnswered();
    reload.join();
    EXPECT_TRUE(reloaded.ok()) << reloaded;
    EXPECT_EQ(Generation(), 2u);
  }

  std::optional<Channel> channel_;
  std::map<uint64_t, std::vector<uint8_t>> waiting_;  // by ticket
};

INSTANTIATE_TEST_SUITE_P(Transports, DeviceInputsTest, ::testing::Values("auto", "vmm"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(DeviceInputsTest, EqualInputsOnTheHostBitByBit) {
  ServeProbe("echo");
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{777}, size_t{4096}, size_t{20000}}) {
    const std::vector<uint8_t> data = Pattern(bytes, static_cast<uint8_t>(bytes));
    for (const PlanOptions& options :
         {PlanOptions{}, kInputs, PlanOptions{.results_on_device = true}, kBoth}) {
      const absl::StatusOr<Response> response = Call(data, options);
      ASSERT_TRUE(response.ok()) << response.status();
      ExpectHolds(*response, data);
    }
  }
}

TEST_P(DeviceInputsTest, LieInTheWorkersOwnMemory) {
  ServeProbe("echo");
  const absl::StatusOr<DeviceLease> lease = channel_->LeaseDevice();
  ASSERT_TRUE(lease.ok()) << lease.status();
  absl::StatusOr<Request> request = Fill(Pattern(3000, 1), kInputs);
  ASSERT_TRUE(request.ok()) << request.status();
  const TensorView view = request->input_view(0);
  EXPECT_EQ(view.name, "data");
  EXPECT_EQ(request->input_generation(), lease->generation());
  if (SimulatedGpu() == nullptr) {
    EXPECT_GE(view.bytes.data(), lease->bytes().data());
    EXPECT_LE(view.bytes.data() + view.bytes.size(), lease->bytes().data() + lease->size_bytes());
    EXPECT_EQ(view.device_address, 0u);
  } else {
    EXPECT_TRUE(view.bytes.empty());
    EXPECT_TRUE(request->input_bytes(0).empty());
    EXPECT_GE(view.device_address, lease->device_address());
    EXPECT_LE(view.device_address + 3000, lease->device_address() + lease->size_bytes());
    EXPECT_EQ(view.device_ordinal, lease->device_ordinal());
  }
}

// One runs, the others wait while its generation is replaced.
TEST_P(DeviceInputsTest, ThatWaitAreThereAfterAReload) {
  ServeProbe("slow");
  ReloadWhileSomeWait();
  EXPECT_TRUE(Call(Pattern(500, 5), kBoth).ok());
}

TEST_P(DeviceInputsTest, ThatWaitAreThereAfterTheirWorkersDeath) {
  ServeProbe("slow");
  for (uint8_t i = 0; i < 6; ++i) Submit(Pattern(1000 + 997u * i, i), kBoth, /*idempotent=*/true);
  ASSERT_TRUE(WaitUntilTaken(1));
  ASSERT_EQ(server_->Workers().size(), 1u);
  ASSERT_EQ(::kill(server_->Workers().front(), SIGKILL), 0);
  // The one that had begun, too: it is tried again, with what its caller wrote.
  EXPECT_EQ(ExpectAllAnswered(), 2u);
}

// The next generation serves before the last one is closed.
TEST_P(DeviceInputsTest, ThatWaitAreThereAfterAnOverlap) {
  ServeProbe("slow", "reload: {strategy: overlap}\n", ", device_capacity: 64MiB");
  ReloadWhileSomeWait();
}

TEST_P(DeviceInputsTest, ThatAreNotSubmittedKeepTheirGenerationAndAreNamed) {
  ServeProbe("echo", "reload: {drain_timeout: 200ms}\n");
  const std::vector<uint8_t> data = Pattern(3000, 1);
  absl::StatusOr<Request> request = Fill(data, kInputs);
  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_FALSE(Reload().ok());
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_THAT(server_->Receipts().front(), HasSubstr("\"outcome\":\"kept-old\""));
  EXPECT_THAT(
      server_->Receipts().front(),
      HasSubstr(absl::StrCat("pid ", ::getpid(), " holds device memory (1 lease of channel")));
  const absl::StatusOr<Response> response =
      channel_->Call(*std::move(request), {.timeout = absl::Minutes(1)});
  ASSERT_TRUE(response.ok()) << response.status();
  ExpectHolds(*response, data);
  ASSERT_TRUE(Reload().ok());
}

// A drain ends when they are submitted: then they wait for the next generation.
TEST_P(DeviceInputsTest, ThatAreSubmittedDuringADrainAreServedByTheNext) {
  ServeProbe("echo", "reload: {drain_timeout: 60s}\n");
  const std::vector<uint8_t> data = Pattern(3000, 1);
  absl::StatusOr<Request> request = Fill(data, kInputs);
  ASSERT_TRUE(request.ok()) << request.status();
  absl::Status reloaded;
  std::thread reload([&] { reloaded = Reload(); });
  EXPECT_TRUE(WaitFor([&] { return front_->closing_generation() == 1; }));
  EXPECT_TRUE(WaitFor([&] { return front_->state() == "DRAINING"; }));
  const absl::StatusOr<Request> another = Fill(data, kInputs);
  EXPECT_TRUE(absl::IsUnavailable(another.status())) << another.status();
  const absl::StatusOr<Response> response =
      channel_->Call(*std::move(request), {.timeout = absl::Minutes(1)});
  reload.join();
  EXPECT_TRUE(reloaded.ok()) << reloaded;
  ASSERT_TRUE(response.ok()) << response.status();
  ExpectHolds(*response, data);
}

TEST_P(DeviceInputsTest, ReloadsUnderLoadLoseNothing) {
  ServeProbe("echo");
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> answered{0};
  std::vector<std::string> wrong;
  std::thread load([&] {
    for (uint8_t round = 0; !stop.load() && wrong.empty(); ++round) {
      const std::vector<uint8_t> data = Pattern(1 + round * 16u, round);
      const absl::StatusOr<Response> response = Call(data, round % 3 == 0 ? kInputs : kBoth);
      if (!response.ok()) {
        wrong.push_back(response.status().ToString());
      } else if (const auto bytes = ReadTensor(response->outputs()[0]);
                 !bytes.ok() || *bytes != data) {
        wrong.push_back("another result");
      }
      answered.fetch_add(1);
    }
  });
  for (uint64_t reload = 1; reload <= 5; ++reload) {
    const uint64_t goal = answered.load() + 20;
    EXPECT_TRUE(WaitFor([&] { return answered.load() >= goal; }));
    const absl::Status status = Reload();
    EXPECT_TRUE(status.ok()) << status;
  }
  stop.store(true);
  load.join();
  EXPECT_THAT(wrong, ::testing::IsEmpty());
  EXPECT_EQ(Generation(), 6u);
}

// Never data of somebody else, or nothing.
TEST_P(DeviceInputsTest, ThatAreNotBroughtOverEndUnavailable) {
  ServeProbe("slow");
  // Read at its first pass, which is to come.
  ASSERT_EQ(::setenv("BATON_FAIL_AT", "front.restore_inputs:2", 1), 0);
  for (uint8_t i = 0; i < 3; ++i) Submit(Pattern(1000, i), kInputs, /*idempotent=*/true);
  ASSERT_TRUE(WaitUntilTaken(1));
  ASSERT_EQ(server_->Workers().size(), 1u);
  ASSERT_EQ(::kill(server_->Workers().front(), SIGKILL), 0);
  int unavailable = 0;
  for (int i = 0; i < 3; ++i) {
    const std::optional<Outcome> outcome = channel_->Wait(absl::Minutes(2));
    ASSERT_TRUE(outcome.has_value());
    if (outcome->response.ok()) {
      ExpectHolds(*outcome->response, waiting_[outcome->ticket.id]);
      continue;
    }
    ++unavailable;
    EXPECT_TRUE(absl::IsUnavailable(outcome->response.status())) << outcome->response.status();
    EXPECT_THAT(outcome->response.status().ToString(), HasSubstr("front.restore_inputs"));
  }
  ::unsetenv("BATON_FAIL_AT");
  EXPECT_EQ(unavailable, 1);
  EXPECT_TRUE(Call(Pattern(1000, 5), kInputs).ok());
}

TEST_P(DeviceInputsTest, SlicesDoNotOverlapAndComeBack) {
  ServeProbe("echo");
  for (int i = 0; i < 20; ++i) {
    // Three more of these fit at once.
    std::vector<Channel> channels;
    for (int c = 0; c < 3; ++c) {
      absl::StatusOr<Channel> channel = absl::UnknownError("not asked");
      ASSERT_TRUE(WaitFor([&] {
        channel =
            front_->OpenChannel({.device_result_bytes = kSlice, .device_input_bytes = kSlice});
        return !absl::IsResourceExhausted(channel.status());
      }));
      ASSERT_TRUE(channel.ok()) << channel.status();
      channels.push_back(*std::move(channel));
    }
    std::vector<Request> requests;
    for (uint8_t c = 0; c < 3; ++c) {
      std::swap(*channel_, channels[c]);
      absl::StatusOr<Request> request = Fill(Pattern(kSlice / 2, c), kInputs);
      ASSERT_TRUE(request.ok()) << request.status();
      requests.push_back(*std::move(request));
      std::swap(*channel_, channels[c]);
    }
    for (uint8_t c = 0; c < 3; ++c) {
      const absl::StatusOr<Response> response = channels[c].Call(std::move(requests[c]));
      ASSERT_TRUE(response.ok()) << response.status();
      ExpectHolds(*response, Pattern(kSlice / 2, c));
    }
  }
}

TEST_P(DeviceInputsTest, WhatCannotBeHadSaysWhy) {
  ServeProbe("echo");
  absl::StatusOr<std::unique_ptr<Front>> blind = server_->Attach();
  ASSERT_TRUE(blind.ok());
  const absl::StatusOr<Channel> unmapped = (*blind)->OpenChannel({.device_input_bytes = kSlice});
  EXPECT_TRUE(absl::IsFailedPrecondition(unmapped.status())) << unmapped.status();
  EXPECT_THAT(unmapped.status().ToString(), HasSubstr("import_device"));
  const absl::StatusOr<Channel> large = front_->OpenChannel({.device_input_bytes = 1 << 30});
  EXPECT_TRUE(absl::IsResourceExhausted(large.status())) << large.status();
  EXPECT_THAT(large.status().ToString(), HasSubstr("limits.device_inputs"));
  const absl::StatusOr<Request> too_large = Fill(Pattern(kSlice + 1, 0), kInputs);
  EXPECT_TRUE(absl::IsInvalidArgument(too_large.status())) << too_large.status();
}

}  // namespace
}  // namespace baton::testing

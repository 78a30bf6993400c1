// Inputs that lie on the device, by hand: which generation's memory they are in
// when a worker looks, and what becomes of them when it is another's.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/device.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;
using Verdict = ipc::ArenaWitness::Verdict;

constexpr uint64_t kBytes = 64 << 10;
constexpr uint64_t kSlice = 16 << 10;

class DeviceInputs : public ::testing::Test {
 protected:
  void Attach() {
    FrontOptions options;
    options.import_device = true;
    session_ = server_.Connect(options);
  }
  void Open() {
    absl::StatusOr<Channel> channel =
        internal::ChannelCore::OpenChannel(session_, {.ring_entries = 8,
                                                      .request_arena_bytes = kBytes,
                                                      .response_arena_bytes = 1 << 20,
                                                      .device_input_bytes = kSlice,
                                                      .max_handles = 16});
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_.emplace(*std::move(channel));
  }
  void Offer(uint64_t generation) {
    Worker& worker = workers_[generation];
    worker.device = ipc::CreateHostDevice(kBytes);
    worker.arena = *worker.device->CreateArena(kBytes, generation);
    worker.witness = *ipc::WitnessHostArena(*worker.arena->Export());
    server_.OfferArena(*worker.arena->Export());
    ASSERT_TRUE(server_.AwaitLast(absl::StrCat("imported ", generation)));
  }
  void Serve(uint64_t generation) { server_.status_page().generation.store(generation); }
  // Generation 1 serves, a channel is open.
  void Start() {
    Attach();
    Offer(1);
    Serve(1);
    Open();
  }
  StepWorker WorkerOf(uint64_t generation) {
    return StepWorker(server_, 0, generation, model_,
                      {.device = workers_[generation].device.get(),
                       .slices_address = workers_[generation].arena->address(),
                       .slices_bytes = kBytes});
  }
  absl::StatusOr<Request> Loan(size_t elements, float first) {
    const TensorSpec spec{"x", DType::kFloat32, {static_cast<int64_t>(elements)}};
    const absl::StatusOr<RequestPlan> plan =
        channel_->Plan(std::span(&spec, 1), {.inputs_on_device = true});
    if (!plan.ok()) return plan.status();
    absl::StatusOr<Request> request = channel_->Loan(*plan);
    if (!request.ok()) return request.status();
    for (float& x : request->input<float>(0)) x = first++;
    return request;
  }
  Ticket Submit(size_t elements, float first, const CallOptions& options = {}) {
    absl::StatusOr<Request> request = Loan(elements, first);
    EXPECT_TRUE(request.ok()) << request.status();
    absl::StatusOr<Ticket> ticket = channel_->Submit(*std::move(request), options);
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return ticket.value_or(Ticket());
  }
  void ExpectDoubled(size_t elements, float first, uint64_t generation) {
    std::optional<Outcome> outcome = channel_->Poll();
    ASSERT_TRUE(outcome.has_value());
    ASSERT_TRUE(outcome->response.ok()) << outcome->response.status();
    EXPECT_EQ(outcome->response->generation(), generation);
    const std::span<const float> y = outcome->response->output<float>(size_t{0});
    ASSERT_EQ(y.size(), elements);
    for (const float value : y) EXPECT_EQ(value, 2 * first++);
  }
  template <typename Condition>
  static void Until(Condition&& condition) {
    while (!condition()) std::this_thread::yield();
  }

  struct Worker {
    std::unique_ptr<ipc::Device> device;
    std::unique_ptr<ipc::DeviceArena> arena;
    std::unique_ptr<ipc::ArenaWitness> witness;
  };
  FakeServer server_;
  std::map<uint64_t, Worker> workers_;
  FunctionModel model_{Double};
  std::shared_ptr<internal::Session> session_;
  std::optional<Channel> channel_;
};

TEST_F(DeviceInputs, AreWrittenWhereTheModelReadsThem) {
  Start();
  StepWorker worker = WorkerOf(1);
  absl::StatusOr<Request> request = Loan(100, 5);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->input_generation(), 1u);
  // What is written here lies there.
  const auto* const there = reinterpret_cast<const float*>(workers_[1].arena->address());
  EXPECT_EQ(there[99], 104);
  EXPECT_EQ(request->input_view(0).bytes.size(), 400u);
  EXPECT_EQ(request->input_view(0).device_address, 0u);
  EXPECT_TRUE(request->input_view(1).bytes.empty());
  ASSERT_TRUE(channel_->Submit(*std::move(request)).ok());
  worker.StepAll();
  ExpectDoubled(100, 5, 1);
}

TEST_F(DeviceInputs, AChannelOpenedBeforeAnArenaIsMappedWritesToItToo) {
  Attach();
  std::thread offer([&] {
    Until([&] { return server_.opened_channels() == 1; });
    Offer(1);
  });
  Serve(1);
  Open();
  offer.join();
  StepWorker worker = WorkerOf(1);
  Submit(10, 1);
  worker.StepAll();
  ExpectDoubled(10, 1, 1);
}

TEST_F(DeviceInputs, BlocksComeBack) {
  Start();
  StepWorker worker = WorkerOf(1);
  for (int i = 0; i < 100; ++i) {
    Submit(1000, static_cast<float>(i));  // four fit
    worker.StepAll();
    ExpectDoubled(1000, static_cast<float>(i), 1);
  }
  std::vector<Request> loaned;
  for (int i = 0; i < 4; ++i) {
    absl::StatusOr<Request> request = Loan(1000, 0);
    ASSERT_TRUE(request.ok()) << request.status();
    loaned.push_back(*std::move(request));
  }
  const absl::StatusOr<Request> more = Loan(1000, 0);
  EXPECT_TRUE(absl::IsResourceExhausted(more.status())) << more.status();
  EXPECT_THAT(more.status().ToString(), HasSubstr("device_input_bytes"));
  loaned.clear();
  EXPECT_TRUE(Loan(4096, 0).ok()) << "all of it";
}

TEST_F(DeviceInputs, ARequestThatIsNotSubmittedIsALease) {
  Start();
  absl::StatusOr<Request> request = Loan(10, 1);
  ASSERT_TRUE(request.ok());
  server_.SayClosing(1, 7);
  ASSERT_TRUE(server_.AwaitLast("leases 7 of 1: 1x1"));
  EXPECT_TRUE(absl::IsUnavailable(Loan(10, 1).status()));
  *request = Request();
  ASSERT_TRUE(server_.AwaitLast("leases 7 of 1:"));
  server_.SayKept(1);
  Until([&] { return Loan(10, 1).ok(); });
}

// The usual reload: what waits is brought from one arena to the next, and the ring does not change.
TEST_F(DeviceInputs, WhatWaitsIsThereInTheNextGeneration) {
  Start();
  Submit(1000, 1);
  absl::StatusOr<Request> late = Loan(500, 7);
  ASSERT_TRUE(late.ok());
  server_.SayClosing(1, 7);
  ASSERT_TRUE(server_.AwaitLast("leases 7 of 1: 1x1"));
  // Submitted while its generation closes.
  ASSERT_TRUE(channel_->Submit(*std::move(late)).ok());
  ASSERT_TRUE(server_.AwaitLast("leases 7 of 1:"));
  server_.SayCloseImports(1);
  ASSERT_TRUE(server_.AwaitLast("closed 1"));
  workers_[1].arena.reset();
  EXPECT_EQ(workers_[1].witness->Confirm(), Verdict::kFreed);
  Offer(2);
  StepWorker worker = WorkerOf(2);
  Serve(2);
  worker.StepAll();
  EXPECT_EQ(model_.runs(), 2);
  ExpectDoubled(1000, 1, 2);
  ExpectDoubled(500, 7, 2);
  Submit(100, 3);
  worker.StepAll();
  ExpectDoubled(100, 3, 2);
}

// A generation that is closed without having served passes on what it was given.
TEST_F(DeviceInputs, TheyGoThroughAGenerationThatNeverServed) {
  Start();
  Submit(1000, 1);
  for (uint64_t generation = 1; generation < 5; ++generation) {
    server_.SayCloseImports(generation);
    ASSERT_TRUE(server_.AwaitLast(absl::StrCat("closed ", generation)));
    workers_.erase(generation);
    Offer(generation + 1);
  }
  StepWorker worker = WorkerOf(5);
  worker.StepAll();
  ExpectDoubled(1000, 1, 5);
}

// A worker of a generation that the inputs have not come to never reads: it gives the request back,
// and gets it again when they are there.
TEST_F(DeviceInputs, AWorkerThatIsTooEarlyGivesTheRequestBack) {
  Start();
  Submit(1000, 1);
  Offer(2);
  StepWorker worker = WorkerOf(2);
  Serve(2);
  worker.StepAll();
  EXPECT_EQ(model_.runs(), 0);
  EXPECT_FALSE(channel_->Poll().has_value()) << "it waits on";
  EXPECT_FALSE(worker.Step()) << "nothing has changed";
  server_.SayCloseImports(1);
  ASSERT_TRUE(server_.AwaitLast("closed 1"));
  EXPECT_FALSE(channel_->Poll().has_value());
  worker.StepAll();
  ExpectDoubled(1000, 1, 2);
  EXPECT_EQ(channel_->outstanding(), 0u);
}

TEST_F(DeviceInputs, WhatWasGivenBackCanBeCancelledAndExpires) {
  Start();
  const Ticket ticket = Submit(1000, 1);
  Submit(1000, 1, {.timeout = absl::Milliseconds(200)});
  Submit(1000, 1, {.timeout = absl::Minutes(5)});
  Submit(1000, 1, {.timeout = absl::Minutes(5)});
  Offer(2);
  StepWorker worker = WorkerOf(2);
  Serve(2);
  worker.StepAll();
  ASSERT_TRUE(channel_->Cancel(ticket).ok());
  const std::optional<Outcome> expired = channel_->Wait(absl::Minutes(1));
  ASSERT_TRUE(expired.has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(expired->response.status())) << expired->response.status();
  // The blocks of both are free, those of the others are not.
  std::vector<Request> loaned;
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<Request> request = Loan(1000, 0);
    ASSERT_TRUE(request.ok()) << request.status();
    loaned.push_back(*std::move(request));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Loan(1000, 0).status()));
}

// One that was given back was not started: its worker's death changes nothing.
TEST_F(DeviceInputs, WhatWasGivenBackSurvivesTheWorkersDeath) {
  Start();
  Submit(1000, 1);
  Offer(2);
  {
    StepWorker worker = WorkerOf(2);
    Serve(2);
    worker.StepAll();
    EXPECT_FALSE(channel_->Poll().has_value());
  }
  server_.SayCloseImports(1);
  ASSERT_TRUE(server_.AwaitLast("closed 1"));
  server_.ShowReaped(2);
  server_.SayCloseImports(2);
  ASSERT_TRUE(server_.AwaitLast("closed 2"));
  Offer(3);
  EXPECT_FALSE(channel_->Poll().has_value());
  StepWorker worker = WorkerOf(3);
  Serve(3);
  EXPECT_FALSE(channel_->Poll().has_value()) << "only now another one serves";
  worker.StepAll();
  ExpectDoubled(1000, 1, 3);
}

// A retry needs its inputs again, also where the dead worker had begun with them.
TEST_F(DeviceInputs, ARetryHasItsInputs) {
  Start();
  Submit(1000, 1, {.idempotent = true});
  Submit(1000, 9);
  {
    RawWorker dies(server_, 0);
    dies.state().taken.store(2);
  }
  server_.ShowReaped(1);
  server_.SayCloseImports(1);
  ASSERT_TRUE(server_.AwaitLast("closed 1"));
  std::optional<Outcome> lost = channel_->Poll();
  ASSERT_TRUE(lost.has_value());
  EXPECT_TRUE(absl::IsAborted(lost->response.status())) << lost->response.status();
  Offer(2);
  StepWorker worker = WorkerOf(2);
  Serve(2);
  worker.StepAll();
  ExpectDoubled(1000, 1, 2);
}

TEST_F(DeviceInputs, InputsThatNoArenaCanTakeEndTheirRequests) {
  Start();
  Submit(1000, 1);
  server_.SayCloseImports(1);
  ASSERT_TRUE(server_.AwaitLast("closed 1"));
  // Smaller than the slice: it cannot be made writable.
  Worker& worker = workers_[2];
  worker.device = ipc::CreateHostDevice(kBytes);
  worker.arena = *worker.device->CreateArena(4096, 2);
  server_.OfferArena(*worker.arena->Export());
  ASSERT_TRUE(server_.AwaitLast("imported 2"));
  Serve(2);
  StepWorker serves(server_, 0, 2, model_,
                    {.device = worker.device.get(),
                     .slices_address = worker.arena->address(),
                     .slices_bytes = kBytes});
  serves.StepAll();
  EXPECT_EQ(model_.runs(), 0);
  const std::optional<Outcome> outcome = channel_->Poll();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(absl::IsUnavailable(outcome->response.status())) << outcome->response.status();
  EXPECT_THAT(outcome->response.status().ToString(), HasSubstr("inputs"));
  EXPECT_FALSE(Loan(10, 1).ok());
}

// As that, where the arena is there before the last one is closed.
TEST_F(DeviceInputs, InputsThatTheNextArenaCannotTakeEndTheirRequests) {
  Start();
  Submit(1000, 1);
  Worker& worker = workers_[2];
  worker.device = ipc::CreateHostDevice(kBytes);
  worker.arena = *worker.device->CreateArena(4096, 2);
  server_.OfferArena(*worker.arena->Export());
  ASSERT_TRUE(server_.AwaitLast("imported 2"));
  Serve(2);
  StepWorker serves(server_, 0, 2, model_,
                    {.device = worker.device.get(),
                     .slices_address = worker.arena->address(),
                     .slices_bytes = kBytes});
  serves.StepAll();
  EXPECT_FALSE(channel_->Poll().has_value());
  server_.SayCloseImports(1);
  ASSERT_TRUE(server_.AwaitLast("closed 1"));
  const std::optional<Outcome> outcome = channel_->Poll();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(absl::IsUnavailable(outcome->response.status())) << outcome->response.status();
  EXPECT_EQ(model_.runs(), 0);
}

// A slice goes back when nothing can write to it any more.
TEST_F(DeviceInputs, ARequestKeepsTheSliceOfItsChannel) {
  Start();
  absl::StatusOr<Request> request = Loan(10, 1);
  ASSERT_TRUE(request.ok());
  channel_.reset();
  EXPECT_EQ(server_.closed_channels(), 0);
  request->input<float>(0)[0] = 3;
  *request = Request();
  Until([&] { return server_.closed_channels() == 1; });
}

TEST_F(DeviceInputs, OptionsAreChecked) {
  Start();
  EXPECT_TRUE(absl::IsInvalidArgument(
      internal::ChannelCore::OpenChannel(session_, {.device_input_bytes = 1000}).status()));
  absl::StatusOr<Channel> plain = internal::ChannelCore::OpenChannel(session_, {});
  ASSERT_TRUE(plain.ok());
  const TensorSpec spec{"x", DType::kFloat32, {8}};
  const absl::StatusOr<RequestPlan> none =
      plain->Plan(std::span(&spec, 1), {.inputs_on_device = true});
  EXPECT_TRUE(absl::IsFailedPrecondition(none.status()));
  EXPECT_THAT(none.status().ToString(), HasSubstr("device_input_bytes"));
  EXPECT_TRUE(absl::IsInvalidArgument(Loan(4097, 0).status()));
}

}  // namespace
}  // namespace baton::test

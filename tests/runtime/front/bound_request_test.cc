// A request that keeps its blocks: every submit ends once, as what it was, and
// it can be submitted again; whatever became of the worker, the deadline or the
// room for its results.
#include <optional>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/device.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

ChannelOptions Small() {
  return {.ring_entries = 8,
          .request_arena_bytes = 64 << 10,
          .response_arena_bytes = 1 << 20,
          .max_handles = 16};
}

TensorSpec VectorOf(int64_t elements) {
  return {.name = "x", .dtype = DType::kFloat32, .shape = {elements}};
}

class BoundRequestTest : public ::testing::Test {
 protected:
  BoundRequest Bind(int64_t elements = 4) {
    const TensorSpec x = VectorOf(elements);
    absl::StatusOr<BoundRequest> bound = channel_.Bind(*channel_.Plan({&x, 1}));
    EXPECT_TRUE(bound.ok()) << bound.status();
    return *std::move(bound);
  }
  void Work(uint64_t generation) {
    worker_.reset();
    worker_.emplace(server_, 0, generation, model_);
  }
  // One submit of a value that nobody else gives, and its answer.
  void ExpectServed(BoundRequest& bound, float value) {
    bound.input<float>(0)[0] = value;
    const absl::StatusOr<Ticket> ticket = channel_.Submit(bound);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    EXPECT_TRUE(bound.under_way());
    EXPECT_TRUE(bound.outputs().empty());
    worker_->StepAll();
    const std::optional<Outcome> outcome = channel_.Poll();
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->ticket, *ticket);
    ASSERT_TRUE(outcome->response.ok()) << outcome->response.status();
    EXPECT_FALSE(outcome->response->valid());  // the results are in `bound`
    EXPECT_FALSE(bound.under_way());
    ASSERT_FALSE(bound.output<float>("y").empty());
    EXPECT_EQ(bound.output<float>("y")[0], 2 * value);
    EXPECT_FALSE(channel_.Poll());
  }
  absl::Status EndOf(BoundRequest& bound) {
    const std::optional<Outcome> outcome = channel_.Poll();
    if (!outcome) return absl::InternalError("it has not ended");
    EXPECT_FALSE(bound.under_way());
    return outcome->response.status();
  }
  void ExpectAllFree() {
    EXPECT_EQ(channel_.free_request_bytes(), Small().request_arena_bytes);
    EXPECT_EQ(channel_.free_response_bytes(), Small().response_arena_bytes);
    EXPECT_EQ(channel_.outstanding(), 0u);
  }

  FakeServer server_;
  FunctionModel model_{Double};
  Channel channel_ = server_.Open(Small());
  std::optional<StepWorker> worker_;
};

TEST_F(BoundRequestTest, KeepsItsPlaceOverManyLaps) {
  Work(7);
  BoundRequest bound = Bind();
  std::byte* const input = bound.input_bytes(0).data();
  EXPECT_EQ(bound.input_count(), 1u);
  EXPECT_TRUE(bound.input<int64_t>(0).empty());
  const uint64_t free_request = channel_.free_request_bytes();
  const uint64_t free_response = channel_.free_response_bytes();
  ExpectServed(bound, 1);
  const std::byte* const output = bound.outputs()[0].bytes.data();
  for (int i = 2; i < 100; ++i) {
    ExpectServed(bound, static_cast<float>(i));
    EXPECT_EQ(bound.input_bytes(0).data(), input);
    EXPECT_EQ(bound.outputs()[0].bytes.data(), output);
    EXPECT_EQ(bound.generation(), 7u);
    EXPECT_EQ(channel_.free_request_bytes(), free_request);
    EXPECT_EQ(channel_.free_response_bytes(), free_response);
  }
  // What was not written is what it was.
  ASSERT_TRUE(channel_.Submit(bound).ok());
  worker_->StepAll();
  EXPECT_TRUE(EndOf(bound).ok());
  EXPECT_EQ(bound.output<float>(size_t{0})[0], 198);
  bound = BoundRequest();
  ExpectAllFree();
}

TEST_F(BoundRequestTest, IsCalled) {
  WorkerThread worker(server_, 0, 3, model_);
  BoundRequest bound = Bind();
  for (int i = 0; i < 200; ++i) {
    bound.input<float>(0)[1] = static_cast<float>(i);
    const absl::Status called = channel_.Call(bound, {.timeout = kLong});
    ASSERT_TRUE(called.ok()) << called;
    EXPECT_EQ(bound.output<float>("y")[1], static_cast<float>(2 * i));
  }
  BoundRequest moved = std::move(bound);
  EXPECT_FALSE(bound.valid());
  EXPECT_TRUE(bound.outputs().empty());
  EXPECT_TRUE(absl::IsInvalidArgument(channel_.Call(bound)));
  EXPECT_EQ(moved.output<float>("y")[1], 398);
  EXPECT_EQ(channel_.outstanding(), 0u);
}

TEST_F(BoundRequestTest, IsNotSubmittedWhileItIsUnderWay) {
  Work(1);
  BoundRequest bound = Bind();
  ASSERT_TRUE(channel_.Submit(bound).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_.Submit(bound).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_.Call(bound)));
  worker_->StepAll();
  // Answered, and nobody has taken its end.
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_.Submit(bound).status()));
  EXPECT_TRUE(EndOf(bound).ok());
  EXPECT_EQ(model_.runs(), 1);
  ExpectServed(bound, 5);
}

TEST_F(BoundRequestTest, IsOfItsChannelAlone) {
  Channel other = server_.Open(Small());
  BoundRequest bound = Bind();
  EXPECT_TRUE(absl::IsInvalidArgument(other.Call(bound)));
  EXPECT_TRUE(absl::IsInvalidArgument(other.Submit(bound).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(channel_.Bind(RequestPlan()).status()));
}

TEST_F(BoundRequestTest, SeveralAndPlainRequestsGoTogether) {
  Work(1);
  std::vector<BoundRequest> bound;
  for (uint64_t i = 0; i < 4; ++i) {
    bound.push_back(Bind());
    bound.back().set_tag(100 + i);
    bound.back().input<float>(0)[0] = static_cast<float>(i);
  }
  for (int lap = 0; lap < 20; ++lap) {
    for (BoundRequest& one : bound) ASSERT_TRUE(channel_.Submit(one).ok());
    ASSERT_TRUE(channel_.Submit(Vector(channel_, 3, 9)).ok());
    worker_->StepAll();
    for (uint64_t i = 0; i < 4; ++i) {
      const std::optional<Outcome> outcome = channel_.Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
      EXPECT_EQ(outcome->tag, 100 + i);
      EXPECT_EQ(bound[i].output<float>("y")[0], static_cast<float>(2 * i));
    }
    const std::optional<Outcome> plain = channel_.Poll();
    ASSERT_TRUE(plain && plain->response.ok());
    EXPECT_EQ(plain->tag, 0u);
    EXPECT_EQ(plain->response->output<float>("y")[0], 18);
  }
  bound.clear();
  ExpectAllFree();
}

TEST_F(BoundRequestTest, AModelsErrorLeavesNoResults) {
  bool fails = false;
  FunctionModel moody([&](std::span<const TensorView> inputs, loader::OutputSink& outputs) {
    return fails ? absl::InternalError("not today") : Double(inputs, outputs);
  });
  StepWorker worker(server_, 0, 1, moody);
  BoundRequest bound = Bind();
  for (const bool failing : {false, true, false}) {
    fails = failing;
    ASSERT_TRUE(channel_.Submit(bound).ok());
    worker.StepAll();
    EXPECT_EQ(EndOf(bound).ok(), !failing);
    EXPECT_EQ(bound.outputs().empty(), failing);
  }
}

TEST_F(BoundRequestTest, ReleasedResultsAreGone) {
  Work(1);
  BoundRequest bound = Bind();
  ExpectServed(bound, 2);
  bound.ReleaseAnswer();
  EXPECT_TRUE(bound.outputs().empty());
  EXPECT_EQ(bound.output("y"), nullptr);
  ExpectServed(bound, 3);
}

// ---- Other workers -----------------------------------------------------------------------------

TEST_F(BoundRequestTest, IsCarriedOverAReload) {
  Work(1);
  BoundRequest bound = Bind();
  ExpectServed(bound, 1);
  bound.input<float>(0)[0] = 21;
  ASSERT_TRUE(channel_.Submit(bound).ok());
  server_.ShowReaped(1);
  EXPECT_FALSE(channel_.Poll());  // it waits
  Work(2);
  worker_->StepAll();
  EXPECT_TRUE(EndOf(bound).ok());
  EXPECT_EQ(bound.generation(), 2u);
  EXPECT_EQ(bound.output<float>("y")[0], 42);
  ExpectServed(bound, 4);
}

TEST_F(BoundRequestTest, EndsOnceWithItsWorkerAndGoesOn) {
  Work(1);
  BoundRequest bound = Bind();
  ExpectServed(bound, 1);
  ASSERT_TRUE(channel_.Submit(bound).ok());
  const RawWorker raw(server_, 0);
  raw.state().taken.store(2);  // it took the second, and died
  server_.ShowReaped(1);
  EXPECT_TRUE(absl::IsAborted(EndOf(bound)));
  EXPECT_FALSE(channel_.Poll());
  EXPECT_TRUE(bound.outputs().empty());
  Work(2);
  ExpectServed(bound, 6);
  EXPECT_EQ(bound.generation(), 2u);
}

TEST_F(BoundRequestTest, IsRetriedWhereThatDoesNoHarm) {
  BoundRequest bound = Bind();
  bound.input<float>(0)[0] = 8;
  ASSERT_TRUE(channel_.Submit(bound, {.idempotent = true}).ok());
  const RawWorker raw(server_, 0);
  raw.state().taken.store(1);
  server_.ShowReaped(1);
  EXPECT_FALSE(channel_.Poll());
  Work(2);
  worker_->StepAll();
  EXPECT_TRUE(EndOf(bound).ok());
  EXPECT_EQ(bound.output<float>("y")[0], 16);
}

TEST_F(BoundRequestTest, TheServersEndEndsIt) {
  BoundRequest bound = Bind();
  ASSERT_TRUE(channel_.Submit(bound).ok());
  server_.Die();
  const std::optional<Outcome> outcome = channel_.Wait(kLong);
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(absl::IsUnavailable(outcome->response.status()));
  EXPECT_TRUE(absl::IsUnavailable(channel_.Call(bound)));
}

TEST_F(BoundRequestTest, OutlivesItsChannel) {
  Work(1);
  BoundRequest answered = Bind();
  ExpectServed(answered, 3);
  BoundRequest waiting = Bind();
  ASSERT_TRUE(channel_.Submit(waiting).ok());
  { const Channel gone = std::move(channel_); }
  EXPECT_EQ(answered.output<float>("y")[0], 6);
  EXPECT_EQ(answered.input<float>(0)[0], 3);
}

// ---- Ends before the worker's ------------------------------------------------------------------

TEST_F(BoundRequestTest, IsNotSubmittedBeforeItsWorkerIsDoneWithIt) {
  BoundRequest bound = Bind();
  bound.input<float>(0)[0] = 1;
  const absl::StatusOr<Ticket> cancelled = channel_.Submit(bound);
  ASSERT_TRUE(channel_.Cancel(*cancelled).ok());
  EXPECT_FALSE(bound.under_way());
  absl::Status again = channel_.Submit(bound).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(again));
  EXPECT_THAT(std::string(again.message()), HasSubstr("may still be at"));
  Work(1);
  worker_->StepAll();
  EXPECT_EQ(model_.runs(), 0);  // it was skipped
  // And the next is not: the flag of the one before is down.
  ExpectServed(bound, 5);
  EXPECT_EQ(model_.runs(), 1);
}

TEST_F(BoundRequestTest, ADeadlineEndsOneSubmit) {
  BoundRequest bound = Bind();
  EXPECT_TRUE(absl::IsDeadlineExceeded(channel_.Call(bound, {.timeout = absl::Milliseconds(1)})));
  EXPECT_TRUE(absl::IsFailedPrecondition(channel_.Call(bound)));
  Work(1);
  worker_->StepAll();
  ExpectServed(bound, 7);
}

TEST_F(BoundRequestTest, ThatGoesUnderWayIsCancelled) {
  {
    BoundRequest pending = Bind();
    ASSERT_TRUE(channel_.Submit(pending).ok());
  }
  EXPECT_EQ(channel_.outstanding(), 0u);
  EXPECT_LT(channel_.free_request_bytes(), Small().request_arena_bytes);  // R4
  Work(1);
  worker_->StepAll();
  EXPECT_FALSE(channel_.Poll());
  EXPECT_EQ(model_.runs(), 0);
  ExpectAllFree();
}

// The first, the middle and the last of what has ended and was not taken.
TEST_F(BoundRequestTest, ThatGoesAnsweredIsNotGivenOut) {
  Work(1);
  for (size_t gone = 0; gone < 3; ++gone) {
    std::vector<BoundRequest> bound(3);
    for (size_t i = 0; i < 3; ++i) {
      bound[i] = Bind();
      bound[i].set_tag(i);
      ASSERT_TRUE(channel_.Submit(bound[i]).ok());
    }
    worker_->StepAll();
    BoundRequest first = Bind();
    // Refused, but it has the answers read.
    EXPECT_TRUE(absl::IsFailedPrecondition(channel_.Submit(bound[0]).status()));
    bound[gone] = BoundRequest();
    ASSERT_TRUE(channel_.Submit(first).ok());
    worker_->StepAll();
    std::vector<uint64_t> tags;
    while (const std::optional<Outcome> outcome = channel_.Poll()) tags.push_back(outcome->tag);
    std::vector<uint64_t> expected;
    for (uint64_t i = 0; i < 3; ++i) {
      if (i != gone) expected.push_back(i);
    }
    expected.push_back(0);
    EXPECT_EQ(tags, expected);
  }
  ExpectAllFree();
}

TEST_F(BoundRequestTest, WaitsForWhatTheModelKeeps) {
  std::shared_ptr<void> token;
  MethodModel keeper({{.name = "predict", .signature = VectorSignature()}},
                     {[&](loader::CallContext& call, std::span<const TensorView> inputs,
                          loader::OutputSink& outputs) {
                       token = call.KeepInputs();
                       return Double(inputs, outputs);
                     }});
  StepWorker worker(server_, 0, 1, keeper);
  BoundRequest bound = Bind();
  bound.input<float>(0)[0] = 3;
  ASSERT_TRUE(channel_.Submit(bound).ok());
  worker.StepAll();
  EXPECT_TRUE(EndOf(bound).ok());
  EXPECT_EQ(bound.output<float>("y")[0], 6);
  const absl::Status kept = channel_.Submit(bound).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(kept));
  EXPECT_THAT(std::string(kept.message()), HasSubstr("keeps this bound request's inputs"));
  EXPECT_EQ(bound.output<float>("y")[0], 6);  // nothing has changed
  token.reset();
  worker.StepAll();
  ASSERT_TRUE(channel_.Submit(bound).ok());
  worker.StepAll();
  EXPECT_TRUE(EndOf(bound).ok());
  token.reset();
}

// ---- Room --------------------------------------------------------------------------------------

// y has as many elements as x[0] says.
absl::Status AsManyAsAsked(std::span<const TensorView> inputs, loader::OutputSink& outputs) {
  const auto count = static_cast<int64_t>(inputs[0].As<float>()[0]);
  absl::StatusOr<std::span<std::byte>> y = outputs.Allocate(0, {&count, 1});
  if (!y.ok()) return y.status();
  auto* values = reinterpret_cast<float*>(y->data());
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(count);
  return absl::OkStatus();
}

TEST_F(BoundRequestTest, ItsBlockGrowsWithItsResults) {
  FunctionModel model(AsManyAsAsked);
  WorkerThread worker(server_, 0, 1, model);
  BoundRequest bound = Bind();
  for (const float count : {10.f, 40'000.f, 10.f, 100'000.f, 100'000.f}) {
    bound.input<float>(0)[0] = count;
    const absl::Status called = channel_.Call(bound, {.timeout = kLong});
    ASSERT_TRUE(called.ok()) << called;
    const std::span<const float> y = bound.output<float>("y");
    ASSERT_EQ(y.size(), static_cast<size_t>(count));
    EXPECT_EQ(y.front(), count);
    EXPECT_EQ(y.back(), count);
  }
  EXPECT_EQ(model.runs(), 7);  // two of them were asked for again
}

TEST_F(BoundRequestTest, WithoutRoomItSaysSoAndGoesOnWhenThereIs) {
  FunctionModel model(AsManyAsAsked);
  StepWorker worker(server_, 0, 1, model);
  BoundRequest bound = Bind();
  // What is left has no room for the larger block, and takes that of this one.
  const TensorSpec x = VectorOf(1);
  std::optional<Request> large = *channel_.NewRequest({&x, 1}, {.response_bytes = 900 << 10});
  bound.input<float>(0)[0] = 100'000;
  ASSERT_TRUE(channel_.Submit(bound).ok());
  worker.StepAll();
  EXPECT_TRUE(absl::IsResourceExhausted(EndOf(bound)));
  std::vector<Request> rest;
  for (;;) {
    absl::StatusOr<Request> request = channel_.NewRequest({&x, 1}, {.response_bytes = 32 << 10});
    if (!request.ok()) break;
    rest.push_back(*std::move(request));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(channel_.Submit(bound).status()));
  rest.clear();
  large.reset();
  ASSERT_TRUE(channel_.Submit(bound).ok());
  worker.StepAll();
  EXPECT_FALSE(channel_.Poll());  // too small, and asked for again
  worker.StepAll();
  EXPECT_TRUE(EndOf(bound).ok());
  EXPECT_EQ(bound.output<float>("y").size(), 100'000u);
  bound = BoundRequest();
  ExpectAllFree();
}

TEST_F(BoundRequestTest, AFullRingRefusesIt) {
  std::vector<BoundRequest> bound;
  for (uint32_t i = 0; i <= Small().ring_entries; ++i) bound.push_back(Bind());
  for (uint32_t i = 0; i < Small().ring_entries; ++i) {
    ASSERT_TRUE(channel_.Submit(bound[i]).ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted(channel_.Submit(bound.back()).status()));
  Work(1);
  worker_->StepAll();
  EXPECT_TRUE(channel_.Submit(bound.back()).ok());
}

TEST_F(BoundRequestTest, ASecretIsWrittenAnewForEach) {
  Signature signature = VectorSignature();
  signature.inputs[0].content = Content::kSecret;
  FakeServer server(signature);
  Channel channel = server.Open(Small());
  FunctionModel model(Double, signature);
  StepWorker worker(server, 0, 1, model);
  const TensorSpec x = VectorOf(4);
  BoundRequest bound = *channel.Bind(*channel.Plan({&x, 1}));
  for (const float secret : {4.f, 5.f}) {
    bound.input<float>(0)[0] = secret;
    ASSERT_TRUE(channel.Submit(bound).ok());
    worker.StepAll();
    ASSERT_TRUE(channel.Poll()->response.ok());
    EXPECT_EQ(bound.input<float>(0)[0], 0);
    EXPECT_EQ(bound.output<float>("y")[0], 2 * secret);
  }
}

// ---- Tensors on the device ---------------------------------------------------------------------

class BoundOnDevice : public ::testing::Test {
 protected:
  static constexpr uint64_t kBytes = 64 << 10;

  void SetUp() override {
    FrontOptions options;
    options.import_device = true;
    session_ = server_.Connect(options);
    server_.OfferArena(*arena_->Export());
    ASSERT_TRUE(server_.AwaitSaid(1));
    ChannelOptions channel = Small();
    channel.device_result_bytes = kBytes / 2;
    channel.device_input_bytes = kBytes / 2;
    channel_.emplace(*internal::ChannelCore::OpenChannel(session_, channel));
  }

  FakeServer server_;
  FunctionModel model_{Double};
  std::unique_ptr<ipc::Device> device_ = ipc::CreateHostDevice(kBytes);
  std::unique_ptr<ipc::DeviceArena> arena_ = *device_->CreateArena(kBytes, 1);
  std::shared_ptr<internal::Session> session_;
  std::optional<Channel> channel_;
};

TEST_F(BoundOnDevice, ResultsAreALeaseUntilTheyAreReleased) {
  StepWorker worker(
      server_, 0, 1, model_,
      {.device = device_.get(), .slices_address = arena_->address(), .slices_bytes = kBytes});
  const TensorSpec x = VectorOf(4);
  absl::StatusOr<BoundRequest> bound = channel_->Bind(*channel_->PlanOnDevice({&x, 1}));
  ASSERT_TRUE(bound.ok()) << bound.status();
  for (const float value : {1.f, 2.f, 3.f}) {
    bound->input<float>(0)[0] = value;
    ASSERT_TRUE(channel_->Submit(*bound).ok());
    worker.StepAll();
    ASSERT_TRUE(channel_->Poll()->response.ok());
    EXPECT_EQ(bound->output<float>("y")[0], 2 * value);
  }
  // One lease, not three.
  server_.SayClosing(1, /*call=*/5);
  ASSERT_TRUE(server_.AwaitLast("leases 5 of 1: 1x1")) << server_.Said().back();
  bound->ReleaseAnswer();
  EXPECT_TRUE(server_.AwaitLast("leases 5 of 1:")) << server_.Said().back();
}

TEST_F(BoundOnDevice, InputsThereAreRefused) {
  const TensorSpec x = VectorOf(4);
  const absl::Status bound =
      channel_->Bind(*channel_->Plan({&x, 1}, {.inputs_on_device = true})).status();
  EXPECT_TRUE(absl::IsInvalidArgument(bound));
  EXPECT_THAT(std::string(bound.message()), HasSubstr("inputs lie on the host"));
}

}  // namespace
}  // namespace baton::test

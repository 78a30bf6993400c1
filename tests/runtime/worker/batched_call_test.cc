// One call for several requests: what each of them gets of it, and what is never
// batched.
#include "runtime/worker/batched_call.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/device.h"
#include "runtime/front/channel_core.h"
#include "runtime/worker/staging_memory.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/worker/batching_worker.h"

namespace baton::test {
namespace {

using runtime::StagingMemory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr loader::BatchingPolicy kEight{.max_batch = 8};

ChannelOptions Small() {
  return {.ring_entries = 16, .request_arena_bytes = 64 << 10, .response_arena_bytes = 1 << 20};
}

Request Ask(Channel& channel, std::span<const TensorSpec> inputs, const PlanOptions& options = {}) {
  Request request = *channel.NewRequest(inputs, options);
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (float& value : request.input<float>(i)) value = static_cast<float>(i + 1);
  }
  return request;
}

absl::Status Status(Channel& channel) {
  const std::optional<Outcome> outcome = channel.Poll();
  if (!outcome) return absl::UnknownError("there is no answer");
  return outcome->response.status();
}

TEST(BatchedCallTest, AModelThatRefusesHasRefusedEachOfThem) {
  FakeServer server;
  DoublingModel model;
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, kEight);
  model.before = [] { return absl::UnavailableError("it is tired"); };
  ASSERT_TRUE(one.Submit(Vector(one, 1, 1)).ok());
  ASSERT_TRUE(two.Submit(Vector(two, 2, 1)).ok());
  EXPECT_TRUE(worker.Turn());
  EXPECT_THAT(model.calls, SizeIs(1));  // once: the call may have had effects
  for (Channel* channel : {&one, &two}) {
    const absl::Status status = Status(*channel);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr("it is tired"));
  }
  EXPECT_EQ(server.worker_page().failed, 2u);
  model.before = [] { return absl::OkStatus(); };
  ASSERT_TRUE(one.Submit(Vector(one, 1, 1)).ok());
  EXPECT_TRUE(worker.Turn());
  EXPECT_TRUE(Status(one).ok());
}

TEST(BatchedCallTest, WhatTheModelThrowsIsAStatusOfEachOfThem) {
  FakeServer server;
  DoublingModel model;
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, kEight);
  model.before = []() -> absl::Status { throw std::runtime_error("no such image"); };
  ASSERT_TRUE(one.Submit(Vector(one, 1, 1)).ok());
  ASSERT_TRUE(two.Submit(Vector(two, 1, 1)).ok());
  EXPECT_TRUE(worker.Turn());
  for (Channel* channel : {&one, &two}) {
    EXPECT_EQ(Status(*channel).code(), absl::StatusCode::kInternal);
  }
}

TEST(StagingMemoryTest, GrowsToWhatIsSaidAndStays) {
  StagingMemory memory;
  const std::span<std::byte> first = memory.Get(100, 1000);
  EXPECT_EQ(first.size(), 100u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first.data()) % 128, 0u);
  EXPECT_EQ(memory.Get(1000, 1000).data(), first.data());
  EXPECT_EQ(memory.Get(1, 1).data(), first.data());
  // What nobody could have is not asked for before it is needed.
  EXPECT_EQ(memory.Get(2000, uint64_t{1} << 60).size(), 2000u);
}

// A model whose rows are not its requests' must not have them mixed up.
TEST(BatchedCallTest, RowsThatAreMissingAreAnError) {
  FakeServer server;
  FunctionModel model([](std::span<const TensorView>, loader::OutputSink& outputs) {
    const int64_t shape[] = {1};
    return outputs.Allocate(0, shape).status();
  });
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, kEight);
  ASSERT_TRUE(one.Submit(Vector(one, 1, 1)).ok());
  ASSERT_TRUE(two.Submit(Vector(two, 1, 1)).ok());
  EXPECT_TRUE(worker.Turn());
  for (Channel* channel : {&one, &two}) {
    const absl::Status status = Status(*channel);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("1 rows of the output 'y' for 2 rows"));
  }
}

TEST(BatchedCallTest, AnOutputThatIsLeftOutIsAnError) {
  FakeServer server;
  FunctionModel model(
      [](std::span<const TensorView>, loader::OutputSink&) { return absl::OkStatus(); });
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, kEight);
  ASSERT_TRUE(one.Submit(Vector(one, 1, 1)).ok());
  ASSERT_TRUE(two.Submit(Vector(two, 1, 1)).ok());
  EXPECT_TRUE(worker.Turn());
  EXPECT_THAT(std::string(Status(one).message()), HasSubstr("gave no output 'y'"));
  EXPECT_THAT(std::string(Status(two).message()), HasSubstr("gave no output 'y'"));
}

// It is told the size that would do, and comes back with that; the others have their answers.
TEST(BatchedCallTest, AResultThatDoesNotFitIsItsOwnersAlone) {
  FakeServer server;
  DoublingModel model;
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, {.max_batch = 2000});
  const TensorSpec many{.name = "x", .dtype = DType::kFloat32, .shape = {1000}};
  ASSERT_TRUE(one.Submit(Ask(one, {&many, 1}, {.response_bytes = 128})).ok());
  ASSERT_TRUE(two.Submit(Vector(two, 1, 21)).ok());
  EXPECT_TRUE(worker.Turn());
  EXPECT_THAT(model.calls, SizeIs(1));
  EXPECT_TRUE(Status(two).ok());
  EXPECT_TRUE(absl::IsUnknown(Status(one))) << "it is under way again";
  EXPECT_TRUE(worker.Turn());
  const std::optional<Outcome> outcome = one.Poll();
  ASSERT_TRUE(outcome && outcome->response.ok());
  EXPECT_THAT(outcome->response->output<float>("y"), SizeIs(1000));
  EXPECT_EQ(outcome->response->output<float>("y")[999], 2);
}

TEST(BatchedCallTest, AllHaveTheTimeOfTheOneCall) {
  FakeServer server;
  DoublingModel model;
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, kEight);
  const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {1}};
  BoundRequest first = *one.Bind(*one.Plan({&x, 1}));
  BoundRequest second = *two.Bind(*two.Plan({&x, 1}));
  ASSERT_TRUE(one.Submit(first).ok());
  ASSERT_TRUE(two.Submit(second).ok());
  EXPECT_TRUE(worker.Turn());
  EXPECT_TRUE(Status(one).ok());
  EXPECT_TRUE(Status(two).ok());
  EXPECT_GT(first.service_time(), absl::ZeroDuration());
  EXPECT_EQ(first.service_time(), second.service_time());
}

// ---- Several inputs, outputs and methods -------------------------------------------------------

// sum = a + b, both [?, 2]; difference = a - b (b may be left out)
Signature PairSignature() {
  const auto rows = [](const char* name) {
    return TensorSpec{.name = name, .dtype = DType::kFloat32, .shape = {kDynamicDim, 2}};
  };
  Signature signature{.inputs = {rows("a"), rows("b")},
                      .outputs = {rows("sum"), rows("difference")}};
  signature.inputs[1].optional = true;
  return signature;
}

absl::Status AddAndSubtract(std::span<const TensorView> inputs, loader::OutputSink& outputs) {
  // The second one first: that is its place in the block, too.
  const absl::StatusOr<std::span<std::byte>> difference = outputs.Allocate(1, inputs[0].shape);
  const absl::StatusOr<std::span<std::byte>> sum = outputs.Allocate(0, inputs[0].shape);
  if (!sum.ok()) return sum.status();
  if (!difference.ok()) return difference.status();
  const std::span<const float> a = inputs[0].As<float>();
  const std::span<const float> b = inputs[1].As<float>();
  for (size_t i = 0; i < a.size(); ++i) {
    const float other = b.empty() ? 0 : b[i];
    reinterpret_cast<float*>(sum->data())[i] = a[i] + other;
    reinterpret_cast<float*>(difference->data())[i] = a[i] - other;
  }
  return absl::OkStatus();
}

TensorSpec Rows(const char* name, int64_t rows) {
  return {.name = name, .dtype = DType::kFloat32, .shape = {rows, 2}};
}

TEST(BatchedCallTest, EachInputAndOutputIsPackedByItself) {
  FakeServer server(PairSignature());
  FunctionModel model(AddAndSubtract, PairSignature());
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, kEight);
  const auto fill = [](Request request, float a, float b) {
    for (float& value : request.input<float>("a")) value = a++;
    for (float& value : request.input<float>("b")) value = b;
    return request;
  };
  const TensorSpec two_rows[] = {Rows("a", 2), Rows("b", 2)};
  const TensorSpec one_row[] = {Rows("b", 1), Rows("a", 1)};  // any order
  ASSERT_TRUE(one.Submit(fill(*one.NewRequest(two_rows), 10, 1)).ok());
  ASSERT_TRUE(two.Submit(fill(*two.NewRequest(one_row), 50, 5)).ok());
  EXPECT_TRUE(worker.Turn());
  EXPECT_EQ(model.runs(), 1);
  const std::optional<Outcome> first = one.Poll();
  const std::optional<Outcome> second = two.Poll();
  ASSERT_TRUE(first && first->response.ok() && second && second->response.ok());
  EXPECT_THAT(first->response->output<float>("sum"), ElementsAre(11, 12, 13, 14));
  EXPECT_THAT(first->response->output<float>("difference"), ElementsAre(9, 10, 11, 12));
  EXPECT_THAT(second->response->output<float>("sum"), ElementsAre(55, 56));
  EXPECT_THAT(second->response->output<float>("difference"), ElementsAre(45, 46));
}

TEST(BatchedCallTest, WhoLeavesAnInputOutGoesWithThoseWhoDo) {
  FakeServer server(PairSignature());
  FunctionModel model(AddAndSubtract, PairSignature());
  std::vector<Channel> channels;
  for (int i = 0; i < 4; ++i) channels.push_back(server.Open(Small()));
  BatchingWorker worker(server, model, kEight);
  const TensorSpec both[] = {Rows("a", 1), Rows("b", 1)};
  for (int lap = 0; lap < 2; ++lap) {
    const int before = model.runs();
    for (size_t i = 0; i < 4; ++i) {
      ASSERT_TRUE(channels[i].Submit(Ask(channels[i], std::span(both).first(1 + i % 2))).ok());
    }
    while (worker.Turn()) {
    }
    for (size_t i = 0; i < 4; ++i) {
      const std::optional<Outcome> outcome = channels[i].Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
      EXPECT_EQ(outcome->response->output<float>("sum")[0], i % 2 == 0 ? 1 : 3);
    }
    // Those that are described for the first time may be calls of their own.
    if (lap > 0) {
      EXPECT_EQ(model.runs() - before, 2);
    }
  }
}

// Rows that are not the same in all inputs are the model's to understand.
TEST(BatchedCallTest, InputsOfDifferentRowsAreACallOfTheirOwn) {
  FakeServer server(PairSignature());
  std::vector<int64_t> rows;
  FunctionModel model(
      [&](std::span<const TensorView> inputs, loader::OutputSink& outputs) {
        rows.push_back(inputs[0].shape[0]);
        static_cast<void>(outputs.Allocate(0, inputs[0].shape));
        return outputs.Allocate(1, inputs[0].shape).status();
      },
      PairSignature());
  Channel one = server.Open(Small());
  Channel two = server.Open(Small());
  BatchingWorker worker(server, model, kEight);
  const TensorSpec uneven[] = {Rows("a", 2), Rows("b", 3)};
  const TensorSpec none[] = {Rows("a", 0), Rows("b", 0)};
  const TensorSpec even[] = {Rows("a", 1), Rows("b", 1)};
  ASSERT_TRUE(one.Submit(Ask(one, uneven)).ok());
  ASSERT_TRUE(one.Submit(Ask(one, none)).ok());
  ASSERT_TRUE(two.Submit(Ask(two, even)).ok());
  ASSERT_TRUE(two.Submit(Ask(two, even)).ok());
  while (worker.Turn()) {
  }
  EXPECT_THAT(rows, ::testing::UnorderedElementsAre(2, 0, 2));
  for (Channel* channel : {&one, &one, &two, &two}) EXPECT_TRUE(Status(*channel).ok());
}

TEST(BatchedCallTest, MethodsAreBatchesOfTheirOwn) {
  std::vector<Method> methods = {{.name = "double", .signature = VectorSignature()},
                                 {.name = "triple", .signature = VectorSignature()},
                                 {.name = "unknown", .signature = VectorSignature()}};
  FakeServer server(methods);
  std::vector<std::pair<int, int64_t>> calls;
  const auto times = [&](int factor) {
    return [&calls, factor](loader::CallContext& call, std::span<const TensorView> inputs,
                            loader::OutputSink& outputs) {
      // What was gathered lies in memory that the next batch gets.
      if (inputs[0].shape[0] > 1) {
        EXPECT_EQ(call.KeepInputs(), nullptr);
      }
      calls.emplace_back(factor, inputs[0].shape[0]);
      const auto y = outputs.Allocate(0, inputs[0].shape);
      if (!y.ok()) return y.status();
      for (size_t i = 0; i < inputs[0].As<float>().size(); ++i) {
        reinterpret_cast<float*>(y->data())[i] =
            static_cast<float>(factor) * inputs[0].As<float>()[i];
      }
      return absl::OkStatus();
    };
  };
  MethodModel model({methods[0], methods[1]}, {times(2), times(3)});
  std::vector<Channel> channels;
  for (int i = 0; i < 5; ++i) channels.push_back(server.Open(Small()));
  BatchingWorker worker(server, model, kEight);
  const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {1}};
  for (int lap = 0; lap < 2; ++lap) {
    calls.clear();
    worker.turn = 0;
    for (size_t i = 0; i < 5; ++i) {
      const uint32_t method = i == 4 ? 2 : static_cast<uint32_t>(i % 2);
      ASSERT_TRUE(channels[i].Submit(Ask(channels[i], {&x, 1}, {.method = method})).ok());
    }
    while (worker.Turn()) {
    }
    for (size_t i = 0; i < 4; ++i) {
      const std::optional<Outcome> outcome = channels[i].Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
      EXPECT_EQ(outcome->response->output<float>("y")[0], i % 2 == 0 ? 2 : 3);
    }
    // A method that is not there is nobody else's trouble.
    EXPECT_EQ(Status(channels[4]).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(calls, ElementsAre(std::pair(2, int64_t{2}), std::pair(3, int64_t{2})));
}

// ---- What lies on the device -------------------------------------------------------------------

TEST(BatchedCallTest, TensorsOnTheDeviceAreACallOfTheirOwn) {
  constexpr uint64_t kBytes = 1 << 20;
  FakeServer server;
  DoublingModel model;
  const std::unique_ptr<ipc::Device> device = ipc::CreateHostDevice(kBytes);
  const std::unique_ptr<ipc::DeviceArena> arena = *device->CreateArena(kBytes, 1);
  FrontOptions options;
  options.import_device = true;
  const auto session = server.Connect(options);
  server.status_page().generation.store(1);
  server.OfferArena(*arena->Export());
  ChannelOptions on_device = Small();
  on_device.device_result_bytes = on_device.device_input_bytes = kBytes / 2;
  Channel there = *internal::ChannelCore::OpenChannel(session, on_device);
  Channel here = server.Open(Small());
  BatchingWorker worker(
      server, model, kEight,
      {.device = device.get(), .slices_address = arena->address(), .slices_bytes = kBytes});
  const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {1}};
  for (const PlanOptions& plan :
       {PlanOptions{.results_on_device = true}, PlanOptions{.inputs_on_device = true}}) {
    for (int lap = 0; lap < 2; ++lap) {
      model.calls.clear();
      ASSERT_TRUE(there.Submit(Ask(there, {&x, 1}, plan)).ok());
      ASSERT_TRUE(here.Submit(Ask(here, {&x, 1})).ok());
      ASSERT_TRUE(here.Submit(Ask(here, {&x, 1})).ok());
      while (worker.Turn()) {
      }
      EXPECT_THAT(model.calls, ::testing::UnorderedElementsAre(SizeIs(1), SizeIs(2)));
      const std::optional<Outcome> outcome = there.Poll();
      ASSERT_TRUE(outcome && outcome->response.ok());
      EXPECT_EQ(outcome->response->output<float>("y")[0], 2);
      EXPECT_TRUE(Status(here).ok());
      EXPECT_TRUE(Status(here).ok());
    }
  }
}

}  // namespace
}  // namespace baton::test

// A model with several methods: each is planned, described and answered by its
// own signature, and what is secret does not stay in shared memory.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/schema_convert.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;

constexpr char kSecret[] = "hunter2-hunter2-hunter2";

// length(text[, secret key]) -> n; negate(x) -> x; and one that streams.
std::vector<Method> Methods() {
  return {{.name = "length",
           .signature = {.inputs = {{.name = "text",
                                     .dtype = DType::kUInt8,
                                     .shape = {kDynamicDim},
                                     .content = Content::kText},
                                    {.name = "key",
                                     .dtype = DType::kUInt8,
                                     .shape = {kDynamicDim},
                                     .content = Content::kSecret,
                                     .optional = true}},
                         .outputs = {{.name = "n", .dtype = DType::kInt64, .shape = {}}}},
           .doc = "Counts."},
          {.name = "negate",
           .signature = {.inputs = {{.name = "x", .dtype = DType::kAny, .shape = {kAnyRank}}},
                         .outputs = {{.name = "x", .dtype = DType::kInt32, .shape = {kAnyRank}}}}},
          {.name = "talk",
           .signature = {.inputs = {{.name = "x", .dtype = DType::kInt64, .shape = {}}},
                         .outputs = {{.name = "y", .dtype = DType::kInt64, .shape = {}}}},
           .streams_outputs = true}};
}

absl::Status Length(loader::CallContext&, std::span<const TensorView> inputs,
                    loader::OutputSink& outputs) {
  absl::StatusOr<std::span<std::byte>> to = outputs.Allocate(0, {});
  if (!to.ok()) return to.status();
  int64_t n = static_cast<int64_t>(inputs[0].bytes.size());
  if (inputs[1].dtype != DType::kInvalid) n += 1000;
  std::memcpy(to->data(), &n, sizeof(n));
  return absl::OkStatus();
}

absl::Status Negate(loader::CallContext&, std::span<const TensorView> inputs,
                    loader::OutputSink& outputs) {
  const std::span<const int32_t> x = inputs[0].As<int32_t>();
  if (x.empty()) return absl::InvalidArgumentError("no int32");
  absl::StatusOr<std::span<std::byte>> to = outputs.Allocate(0, inputs[0].shape);
  if (!to.ok()) return to.status();
  auto* y = reinterpret_cast<int32_t*>(to->data());
  std::ranges::transform(x, y, std::negate<>());
  return absl::OkStatus();
}

absl::Status Never(loader::CallContext&, std::span<const TensorView>, loader::OutputSink&) {
  return absl::InternalError("called once");
}

TensorSpec Text(const std::string& name, size_t bytes) {
  return {.name = name, .dtype = DType::kUInt8, .shape = {static_cast<int64_t>(bytes)}};
}

class MethodsTest : public ::testing::Test {
 protected:
  MethodsTest() : channel_(server_.Open()), worker_(server_, 0, 1, model_) {}

  Request Loan(std::vector<TensorSpec> inputs, uint32_t method) {
    absl::StatusOr<RequestPlan> plan = channel_.Plan(inputs, {.method = method});
    EXPECT_TRUE(plan.ok()) << plan.status();
    return *channel_.Loan(*plan);
  }
  absl::StatusOr<Response> Answered(Request request) {
    absl::StatusOr<Ticket> ticket = channel_.Submit(std::move(request));
    if (!ticket.ok()) return ticket.status();
    worker_.StepAll();
    std::optional<Outcome> outcome = channel_.Poll();
    if (!outcome) return absl::InternalError("no answer");
    return std::move(outcome->response);
  }

  FakeServer server_{Methods()};
  MethodModel model_{Methods(), {Length, Negate, Never}};
  Channel channel_;
  StepWorker worker_;
};

TEST_F(MethodsTest, AreToldToTheFront) {
  EXPECT_EQ(channel_.methods(), Methods());
  EXPECT_EQ(channel_.signature(), Methods()[0].signature);
  EXPECT_EQ(*channel_.FindMethod("negate"), 1u);
  const absl::Status unknown = channel_.FindMethod("divide").status();
  EXPECT_TRUE(absl::IsNotFound(unknown));
  EXPECT_THAT(unknown.ToString(), HasSubstr("length, negate, talk"));
}

TEST_F(MethodsTest, AreAnsweredEachByItsOwnSignature) {
  // In turns: descriptions of the two have the same names in the worker.
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<Response> length = Answered(Loan({Text("text", 5)}, 0));
    ASSERT_TRUE(length.ok()) << length.status();
    ASSERT_EQ(length->output<int64_t>("n").size(), 1u);
    EXPECT_EQ(length->output<int64_t>("n")[0], 5);

    Request request = Loan({{.name = "x", .dtype = DType::kInt32, .shape = {2, 3}}}, 1);
    const std::span<int32_t> x = request.input<int32_t>("x");
    std::iota(x.begin(), x.end(), 1);
    absl::StatusOr<Response> negated = Answered(std::move(request));
    ASSERT_TRUE(negated.ok()) << negated.status();
    EXPECT_THAT(negated->outputs()[0].shape, ::testing::ElementsAre(2, 3));
    EXPECT_EQ(negated->output<int32_t>("x")[5], -6);
  }
}

TEST_F(MethodsTest, RefuseWhatIsOfAnother) {
  EXPECT_TRUE(
      absl::IsInvalidArgument(channel_.Plan(std::vector{Text("text", 5)}, {.method = 1}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(channel_.Plan(std::vector{Text("text", 5)}, {.method = 3}).status()));
  Request talk = Loan({{.name = "x", .dtype = DType::kInt64, .shape = {}}}, 2);
  const absl::Status once = channel_.Call(std::move(talk)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(once)) << once;
  EXPECT_TRUE(talk.valid());
}

TEST_F(MethodsTest, AWorkerRefusesAMethodThatItsModelLacks) {
  std::vector<Method> fewer = Methods();
  fewer.resize(1);
  MethodModel model(fewer, {Length});
  Channel channel = server_.Open();
  StepWorker worker(server_, 1, 1, model);
  const std::vector<TensorSpec> inputs = {{.name = "x", .dtype = DType::kInt32, .shape = {1}}};
  ASSERT_TRUE(channel.Submit(*channel.Loan(*channel.Plan(inputs, {.method = 1}))).ok());
  worker.StepAll();
  const std::optional<Outcome> outcome = channel.Poll();
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(absl::IsInvalidArgument(outcome->response.status())) << outcome->response.status();
}

TEST_F(MethodsTest, TakesAnOptionalInputOrItsAbsence) {
  absl::StatusOr<Response> with = Answered(Loan({Text("text", 5), Text("key", 7)}, 0));
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ(with->output<int64_t>("n")[0], 1005);
}

// ---- Secrets -----------------------------------------------------------------------------------

std::span<std::byte> Fill(Request& request) {
  const std::span<std::byte> key = request.input_bytes("key");
  std::memcpy(key.data(), kSecret, sizeof(kSecret));
  return key;
}

bool IsWiped(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

TEST_F(MethodsTest, WipesASecretWhenItsRequestHasEnded) {
  Request request = Loan({Text("text", 5), Text("key", sizeof(kSecret))}, 0);
  std::memset(request.input_bytes("text").data(), 'x', 5);
  const std::span<std::byte> text = request.input_bytes("text");
  const std::span<std::byte> key = Fill(request);
  ASSERT_TRUE(channel_.Submit(std::move(request)).ok());
  EXPECT_FALSE(IsWiped(key));  // the model has not seen it yet
  worker_.StepAll();
  ASSERT_TRUE(channel_.Poll()->response.ok());
  EXPECT_TRUE(IsWiped(key));
  EXPECT_FALSE(IsWiped(text));  // costs nothing where nothing is secret
}

// Texts have any length, and a channel keeps no more than 256 plans.
TEST_F(MethodsTest, TakeRequestsOfMoreShapesThanThereArePlans) {
  for (const int64_t again : {0, 1}) {
    for (int64_t size = 1; size <= 300; ++size) {
      const TensorSpec text = Text("text", size);
      absl::StatusOr<Request> request = channel_.NewRequest({&text, 1}, PlanOptions{.method = 0});
      ASSERT_TRUE(request.ok()) << request.status();
      absl::StatusOr<Response> length = Answered(*std::move(request));
      ASSERT_TRUE(length.ok()) << length.status() << again;
      EXPECT_EQ(length->output<int64_t>("n")[0], size);
    }
  }
  // The plan that such a request has of its own knows what is secret.
  const TensorSpec specs[] = {Text("text", 999), Text("key", sizeof(kSecret))};
  std::span<std::byte> key;
  {
    absl::StatusOr<Request> request = channel_.NewRequest(specs, PlanOptions{.method = 0});
    ASSERT_TRUE(request.ok()) << request.status();
    key = Fill(*request);
  }
  EXPECT_TRUE(IsWiped(key));
  EXPECT_TRUE(absl::IsResourceExhausted(channel_.Plan(specs).status()));
}

TEST_F(MethodsTest, WipesTheSecretOfARequestThatWasNeverSubmitted) {
  std::span<std::byte> key;
  {
    Request request = Loan({Text("text", 5), Text("key", sizeof(kSecret))}, 0);
    key = Fill(request);
  }
  EXPECT_TRUE(IsWiped(key));
}

TEST_F(MethodsTest, WipesTheSecretOfACancelledRequestWhenTheWorkerIsDoneWithIt) {
  Request request = Loan({Text("text", 5), Text("key", sizeof(kSecret))}, 0);
  const std::span<std::byte> key = Fill(request);
  absl::StatusOr<Ticket> ticket = channel_.Submit(std::move(request));
  ASSERT_TRUE(channel_.Cancel(*ticket).ok());
  EXPECT_FALSE(IsWiped(key));
  worker_.StepAll();
  EXPECT_FALSE(channel_.Poll());
  EXPECT_TRUE(IsWiped(key));
}

TEST_F(MethodsTest, WipesTheSecretOfARequestWhoseWorkerDied) {
  Request request = Loan({Text("text", 5), Text("key", sizeof(kSecret))}, 0);
  const std::span<std::byte> key = Fill(request);
  ASSERT_TRUE(channel_.Submit(std::move(request)).ok());
  const RawWorker raw(server_, 0);
  raw.state().taken.store(1);
  server_.ShowReaped(1);
  const std::optional<Outcome> outcome = channel_.Wait(absl::Minutes(1));
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(absl::IsAborted(outcome->response.status()));
  EXPECT_TRUE(IsWiped(key));
}

// ---- What is told ------------------------------------------------------------------------------

TEST(Methods, AreRefusedWhereTheyCannotBe) {
  EXPECT_TRUE(ipc::CheckMethods(Methods()).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ipc::CheckMethods({})));
  std::vector<Method> twice = {Methods()[1], Methods()[1]};
  EXPECT_TRUE(absl::IsInvalidArgument(ipc::CheckMethods(twice)));
  std::vector<Method> streamed = {Methods()[1]};
  streamed[0].signature.inputs[0].streamed = true;
  EXPECT_TRUE(absl::IsInvalidArgument(ipc::CheckMethods(streamed)));
  streamed[0].streams_inputs = true;
  EXPECT_TRUE(ipc::CheckMethods(streamed).ok());
  std::vector<Method> talkative = Methods();
  talkative[0].doc = std::string(60'000, 'x');
  EXPECT_TRUE(absl::IsResourceExhausted(ipc::CheckMethods(talkative)));
}

TEST(Methods, AreTheSameToCallersWhateverTheirTexts) {
  std::vector<Method> other = Methods();
  other[0].doc = "Counts bytes.";
  other[0].signature.inputs[0].type_text = "str";
  other[0].signature.inputs[1].default_text = "None";
  EXPECT_TRUE(SameCalls(Methods(), other));
  other[0].signature.inputs[1].optional = false;
  EXPECT_FALSE(SameCalls(Methods(), other));
  other = Methods();
  other[2].streams_outputs = false;
  EXPECT_FALSE(SameCalls(Methods(), other));
  other.pop_back();
  EXPECT_FALSE(SameCalls(Methods(), other));
}

}  // namespace
}  // namespace baton::test

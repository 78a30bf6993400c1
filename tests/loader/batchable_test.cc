#include "loader/batchable.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TensorSpec Rows(const std::string& name, std::vector<int64_t> shape = {kDynamicDim, 4}) {
  return {.name = name, .dtype = DType::kFloat32, .shape = std::move(shape)};
}

Method Of(std::vector<TensorSpec> inputs, std::vector<TensorSpec> outputs) {
  return {.name = "m", .signature = {.inputs = std::move(inputs), .outputs = std::move(outputs)}};
}

std::string Refusal(const Method& method) {
  const absl::Status status = CheckBatchable(method);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

class ModelOf final : public Model {
 public:
  explicit ModelOf(std::vector<Method> methods, bool concurrent = false)
      : methods_(std::move(methods)), concurrent_(concurrent) {}
  const Signature& signature() const override { return methods_.front().signature; }
  std::span<const Method> methods() const override { return methods_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const DeviceRegion&) override { return absl::OkStatus(); }
  absl::Status Run(std::span<const TensorView>, OutputSink&) override { return absl::OkStatus(); }
  bool concurrent_calls() const override { return concurrent_; }

 private:
  const std::vector<Method> methods_;
  const bool concurrent_;
};

std::string Refusal(const Model& model) {
  ModelConfig config;
  config.directory = "/models/x";
  EXPECT_TRUE(CheckBatching(config, model).ok()) << "batching is off";
  config.batching.max_batch = 2;
  const absl::Status status = CheckBatching(config, model);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("/models/x/config.yaml: batching: "), HasSubstr("leave 'batching'")));
  return std::string(status.message());
}

TEST(BatchableTest, RowsOfAnyDTypeAndShape) {
  TensorSpec any = Rows("any", {kDynamicDim});
  any.dtype = DType::kAny;
  EXPECT_TRUE(CheckBatchable(Of({Rows("x"), any}, {Rows("y", {kDynamicDim, kDynamicDim})})).ok());
}

TEST(BatchableTest, NamesTheTensorThatHasNoRows) {
  EXPECT_THAT(Refusal(Of({Rows("x"), Rows("scale", {})}, {Rows("y")})),
              AllOf(HasSubstr("'m'"), HasSubstr("input scale: float32[]")));
  EXPECT_THAT(Refusal(Of({Rows("x", {1, 4})}, {Rows("y")})), HasSubstr("x: float32[1, 4]"));
  EXPECT_THAT(Refusal(Of({Rows("x")}, {Rows("y"), Rows("mean", {4})})),
              HasSubstr("output mean: float32[4]"));
  EXPECT_THAT(Refusal(Of({Rows("x", {kAnyRank})}, {Rows("y")})), HasSubstr("x: float32[...]"));
  EXPECT_THAT(Refusal(Of({}, {Rows("y")})), HasSubstr("no input"));
}

TEST(BatchableTest, ContentThatIsNoTensorHasNoRows) {
  for (uint8_t content = 1; content <= kMaxContent; ++content) {
    TensorSpec text = Rows("text", {kDynamicDim});
    text.content = Content{content};
    EXPECT_THAT(Refusal(Of({text}, {Rows("y")})), HasSubstr("no plain tensor"));
    EXPECT_THAT(Refusal(Of({Rows("x")}, {text})), HasSubstr("no plain tensor"));
  }
}

TEST(BatchableTest, StreamsAreLeftAlone) {
  Method streams = Of({Rows("scale", {})}, {Rows("y")});
  streams.streams_outputs = true;
  EXPECT_THAT(Refusal(streams), HasSubstr("streams"));
  ModelConfig config;
  config.batching.max_batch = 2;
  EXPECT_TRUE(CheckBatching(config, ModelOf({streams, Of({Rows("x")}, {Rows("y")})})).ok());
  EXPECT_THAT(Refusal(ModelOf({streams})), HasSubstr("all methods of this model stream"));
}

TEST(BatchableTest, EveryMethodThatIsCalledOnceHasToBe) {
  const Method good = Of({Rows("x")}, {Rows("y")});
  Method bad = Of({Rows("k", {})}, {Rows("y")});
  bad.name = "scaled";
  EXPECT_THAT(Refusal(ModelOf({good, bad})),
              AllOf(HasSubstr("'scaled'"), HasSubstr("first dimension '?'")));
}

TEST(BatchableTest, CallsOnThreadsAreNotBatched) {
  EXPECT_THAT(Refusal(ModelOf({Of({Rows("x")}, {Rows("y")})}, /*concurrent=*/true)),
              HasSubstr("num_threads: 1"));
}

// A model directory that says so is not staged.
TEST(BatchableTest, StagingAsks) {
  const char* source = std::getenv("BATON_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  auto config = LoadModelConfig(std::string(source) + "/loader/models/digits");
  ASSERT_TRUE(config.ok()) << config.status();
  config->batching.max_batch = 64;
  EXPECT_TRUE(StageModel(*config).ok());
  config->signature->inputs[0].shape[0] = 1;
  config->signature->outputs[0].shape[0] = 1;
  const absl::Status status = StageModel(*config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

}  // namespace
}  // namespace baton::loader

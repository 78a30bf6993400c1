#include "loader/onnx/onnx_model.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/onnx/memory_sink.h"
#include "tests/loader/onnx/tiny_onnx.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

class OnnxModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "onnx_model_test." + std::to_string(::getpid());
    std::filesystem::create_directories(directory_);
    config_.directory = directory_;
    config_.name = "tiny";
    config_.loader = "onnx";
    config_.file = directory_ + "/model.onnx";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& bytes) {
    std::ofstream(config_.file, std::ios::binary | std::ios::trunc) << bytes;
  }
  // A model that is ready to run, or a failed test and null.
  std::unique_ptr<Model> Uploaded(const TinyOnnx& model) {
    Write(model.Serialize());
    auto staged = StageOnnxModel(config_);
    EXPECT_TRUE(staged.ok()) << staged.status();
    if (!staged.ok()) return nullptr;
    EXPECT_TRUE((*staged)->Upload({}).ok());
    return *std::move(staged);
  }
  absl::Status StageError(const std::string& bytes) {
    Write(bytes);
    return StageOnnxModel(config_).status();
  }

  std::string directory_;
  ModelConfig config_;
};

template <typename T>
TensorView View(const std::string& name, const std::vector<int64_t>& shape,
                std::span<const T> values) {
  return {name, DTypeOf<T>(), shape, std::as_bytes(values)};
}

// y = -x, z = x + y: z is 0 as long as y has memory of its own. With y placed
// onto x, z is -2x if and only if y was written in place while the model ran.
TinyOnnx InPlaceProbe(const std::vector<int64_t>& shape) {
  return TinyOnnx()
      .Input("x", OnnxType::kFloat, shape)
      .Node("Neg", {"x"}, {"y"})
      .Node("Add", {"x", "y"}, {"z"})
      .Output("y", OnnxType::kFloat, shape)
      .Output("z", OnnxType::kFloat, shape);
}

std::vector<float> RunProbe(Model& model, const std::vector<float>& x) {
  AlignedBytes memory(x.size() * sizeof(float));
  std::memcpy(memory.span().data(), x.data(), memory.span().size());
  const std::string name = "x";
  const std::vector<int64_t> shape = {static_cast<int64_t>(x.size())};
  const TensorView input = {name, DType::kFloat32, shape, memory.span()};
  MemorySink sink(model.signature());
  sink.Place(0, memory.span());
  const absl::Status run = model.Run({&input, 1}, sink);
  EXPECT_TRUE(run.ok()) << run;
  return run.ok() ? sink[1].As<float>() : std::vector<float>();
}

TEST_F(OnnxModelTest, SignatureComesFromTheFile) {
  auto model = Uploaded(TinyOnnx()
                            .Input("image", OnnxType::kFloat, {-1, 3, 4})
                            .Input("n", OnnxType::kInt64, {})
                            .Node("Neg", {"image"}, {"a"})
                            .Node("Neg", {"n"}, {"b"})
                            .Output("a", OnnxType::kFloat, {-1, 3, 4})
                            .Output("b", OnnxType::kInt64, {}));
  ASSERT_NE(model, nullptr);
  const Signature expected = {
      .inputs = {{"image", DType::kFloat32, {kDynamicDim, 3, 4}}, {"n", DType::kInt64, {}}},
      .outputs = {{"a", DType::kFloat32, {kDynamicDim, 3, 4}}, {"b", DType::kInt64, {}}}};
  EXPECT_EQ(model->signature(), expected);
  EXPECT_EQ(model->device_bytes(), 0u);
}

TEST_F(OnnxModelTest, FixedOutputsAreWrittenInPlace) {
  auto model = Uploaded(InPlaceProbe({3}));
  ASSERT_NE(model, nullptr);
  EXPECT_THAT(RunProbe(*model, {1, 2, 3}), ElementsAre(-2, -4, -6));
}

TEST_F(OnnxModelTest, DynamicOutputsAreCopiedOnce) {
  auto model = Uploaded(InPlaceProbe({-1}));
  ASSERT_NE(model, nullptr);
  for (int i = 0; i < 3; ++i) EXPECT_THAT(RunProbe(*model, {1, 2}), ElementsAre(0, 0));
}

TEST_F(OnnxModelTest, KnownInputShapesMakeDynamicOutputsInPlace) {
  config_.options["output_shapes"] = "by_input_shapes";
  auto model = Uploaded(InPlaceProbe({-1}));
  ASSERT_NE(model, nullptr);
  EXPECT_THAT(RunProbe(*model, {1, 2}), ElementsAre(0, 0));
  EXPECT_THAT(RunProbe(*model, {1, 2}), ElementsAre(-2, -4));
  EXPECT_THAT(RunProbe(*model, {1, 2, 3}), ElementsAre(0, 0, 0));
  EXPECT_THAT(RunProbe(*model, {1, 2, 3}), ElementsAre(-2, -4, -6));
  EXPECT_THAT(RunProbe(*model, {1, 2}), ElementsAre(-2, -4));
}

TEST_F(OnnxModelTest, MoreShapesThanAreRememberedStayRight) {
  config_.options["output_shapes"] = "by_input_shapes";
  auto model = Uploaded(InPlaceProbe({-1}));
  ASSERT_NE(model, nullptr);
  for (size_t size = 1; size <= 600; ++size) {
    const std::vector<float> x(size, 1.0f);
    EXPECT_THAT(RunProbe(*model, x), ElementsAreArray(std::vector<float>(size, 0.0f)));
  }
}

TEST_F(OnnxModelTest, BrokenPromiseFailsOneRequestAndIsTakenBack) {
  config_.options["output_shapes"] = "by_input_shapes";
  auto model = Uploaded(TinyOnnx()
                            .Input("x", OnnxType::kInt64, {-1})
                            .Node("NonZero", {"x"}, {"where"})
                            .Output("where", OnnxType::kInt64, {1, -1}));
  ASSERT_NE(model, nullptr);
  const auto run = [&](std::vector<int64_t> x, MemorySink& sink) {
    const std::string name = "x";
    const std::vector<int64_t> shape = {static_cast<int64_t>(x.size())};
    const TensorView input = View<int64_t>(name, shape, x);
    return model->Run({&input, 1}, sink);
  };
  MemorySink first(model->signature()), second(model->signature()), third(model->signature());
  ASSERT_TRUE(run({0, 5, 0, 7}, first).ok());
  EXPECT_THAT(first[0].As<int64_t>(), ElementsAre(1, 3));
  const absl::Status broken = run({4, 5, 0, 7}, second);
  EXPECT_EQ(broken.code(), absl::StatusCode::kInternal) << broken;
  EXPECT_THAT(std::string(broken.message()), HasSubstr("output_shapes"));
  ASSERT_TRUE(run({4, 5, 0, 7}, third).ok());
  EXPECT_THAT(third[0].As<int64_t>(), ElementsAre(0, 1, 3));
}

TEST_F(OnnxModelTest, ScalarsAndEmptyTensorsWork) {
  auto model = Uploaded(TinyOnnx()
                            .Input("n", OnnxType::kInt64, {})
                            .Input("e", OnnxType::kFloat, {0, 3})
                            .Node("Neg", {"n"}, {"m"})
                            .Node("Neg", {"e"}, {"f"})
                            .Output("m", OnnxType::kInt64, {})
                            .Output("f", OnnxType::kFloat, {0, 3}));
  ASSERT_NE(model, nullptr);
  const int64_t n = 16000;
  const std::string names[] = {"n", "e"};
  const std::vector<int64_t> scalar, empty = {0, 3};
  const TensorView inputs[] = {View<int64_t>(names[0], scalar, {&n, 1}),
                               View<float>(names[1], empty, {})};
  MemorySink sink(model->signature());
  const absl::Status run = model->Run(inputs, sink);
  ASSERT_TRUE(run.ok()) << run;
  EXPECT_THAT(sink[0].shape, ElementsAre());
  EXPECT_THAT(sink[0].As<int64_t>(), ElementsAre(-16000));
  EXPECT_THAT(sink[1].shape, ElementsAre(0, 3));
}

class OnnxTypeTest : public OnnxModelTest,
                     public ::testing::WithParamInterface<std::pair<OnnxType, DType>> {};

TEST_P(OnnxTypeTest, RoundTrips) {
  const auto [onnx, dtype] = GetParam();
  auto model = Uploaded(TinyOnnx()
                            .Input("x", onnx, {2, -1})
                            .Node("Identity", {"x"}, {"y"})
                            .Output("y", onnx, {2, -1}));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->signature().inputs[0].dtype, dtype);
  AlignedBytes memory(2 * 3 * DTypeBytes(dtype));
  for (size_t i = 0; i < memory.span().size(); ++i) memory.span()[i] = std::byte(i % 2);
  const std::string name = "x";
  const std::vector<int64_t> shape = {2, 3};
  const TensorView input = {name, dtype, shape, memory.span()};
  MemorySink sink(model->signature());
  const absl::Status run = model->Run({&input, 1}, sink);
  ASSERT_TRUE(run.ok()) << run;
  EXPECT_EQ(sink[0].shape, shape);
  ASSERT_EQ(sink[0].bytes.size(), memory.span().size());
  EXPECT_EQ(std::memcmp(sink[0].bytes.data(), memory.span().data(), memory.span().size()), 0);
}

INSTANTIATE_TEST_SUITE_P(
    AllTypes, OnnxTypeTest,
    ::testing::Values(
        std::pair(OnnxType::kBool, DType::kBool), std::pair(OnnxType::kUInt8, DType::kUInt8),
        std::pair(OnnxType::kInt8, DType::kInt8), std::pair(OnnxType::kUInt16, DType::kUInt16),
        std::pair(OnnxType::kInt16, DType::kInt16), std::pair(OnnxType::kUInt32, DType::kUInt32),
        std::pair(OnnxType::kInt32, DType::kInt32), std::pair(OnnxType::kUInt64, DType::kUInt64),
        std::pair(OnnxType::kInt64, DType::kInt64), std::pair(OnnxType::kFloat16, DType::kFloat16),
        std::pair(OnnxType::kBFloat16, DType::kBFloat16),
        std::pair(OnnxType::kFloat, DType::kFloat32),
        std::pair(OnnxType::kDouble, DType::kFloat64)),
    [](const auto& info) { return std::string(DTypeName(info.param.second)); });

TEST_F(OnnxModelTest, TypesThatBatonDoesNotCarryAreRefused) {
  const absl::Status strings = StageError(TinyOnnx()
                                              .Input("words", OnnxType::kString, {2})
                                              .Node("Identity", {"words"}, {"y"})
                                              .Output("y", OnnxType::kString, {2})
                                              .Serialize());
  EXPECT_EQ(strings.code(), absl::StatusCode::kUnimplemented) << strings;
  EXPECT_THAT(std::string(strings.message()), AllOf(HasSubstr(config_.file), HasSubstr("'words'")));
  const absl::Status sequence = StageError(TinyOnnx()
                                               .Input("x", OnnxType::kFloat, {2})
                                               .Node("SequenceConstruct", {"x"}, {"s"})
                                               .SequenceOutput("s", OnnxType::kFloat)
                                               .Serialize());
  EXPECT_EQ(sequence.code(), absl::StatusCode::kUnimplemented) << sequence;
  EXPECT_THAT(std::string(sequence.message()), HasSubstr("'s' is not a tensor"));
}

TEST_F(OnnxModelTest, BadFilesAreNamed) {
  EXPECT_EQ(StageOnnxModel(config_).status().code(), absl::StatusCode::kNotFound);
  const std::string good = InPlaceProbe({3}).Serialize();
  const std::string bad[] = {"", "not a model", std::string(1000, '\xff'),
                             good.substr(0, good.size() / 2), good.substr(0, good.size() - 1)};
  for (const std::string& bytes : bad) {
    const absl::Status status = StageError(bytes);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(config_.file));
  }
  const absl::Status unknown_operator = StageError(TinyOnnx()
                                                       .Input("x", OnnxType::kFloat, {2})
                                                       .Node("Frobnicate", {"x"}, {"y"})
                                                       .Output("y", OnnxType::kFloat, {2})
                                                       .Serialize());
  EXPECT_FALSE(unknown_operator.ok());
  EXPECT_THAT(std::string(unknown_operator.message()),
              AllOf(HasSubstr(config_.file), HasSubstr("Frobnicate")));
}

TEST_F(OnnxModelTest, EveryTruncationOfAModelIsAStatus) {
  const std::string good = InPlaceProbe({3}).Serialize();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(StageError(good.substr(0, size)).ok()) << size;
  }
}

TEST_F(OnnxModelTest, ConfigSignatureMayNarrowAndReorder) {
  const Signature given = {.inputs = {{"x", DType::kFloat32, {3}}},
                           .outputs = {{"z", DType::kFloat32, {3}}, {"y", DType::kFloat32, {3}}}};
  config_.signature = given;
  auto model = Uploaded(InPlaceProbe({-1}));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->signature(), given);
  const std::vector<float> x = {1, 2, 3};
  const std::string name = "x";
  const std::vector<int64_t> shape = {3};
  const TensorView input = View<float>(name, shape, x);
  MemorySink sink(model->signature());
  ASSERT_TRUE(model->Run({&input, 1}, sink).ok());
  EXPECT_THAT(sink[0].As<float>(), ElementsAre(0, 0, 0));
  EXPECT_THAT(sink[1].As<float>(), ElementsAre(-1, -2, -3));
}

TEST_F(OnnxModelTest, OutputsLeftOutOfTheConfigSignatureAreNotGiven) {
  config_.signature = Signature{.inputs = {{"x", DType::kFloat32, {kDynamicDim}}},
                                .outputs = {{"y", DType::kFloat32, {kDynamicDim}}}};
  auto model = Uploaded(InPlaceProbe({-1}));
  ASSERT_NE(model, nullptr);
  const std::vector<float> x = {1, 2};
  const std::string name = "x";
  const std::vector<int64_t> shape = {2};
  const TensorView input = View<float>(name, shape, x);
  MemorySink sink(model->signature());
  ASSERT_TRUE(model->Run({&input, 1}, sink).ok());
  EXPECT_EQ(sink.asked(), 1u);
  EXPECT_THAT(sink[0].As<float>(), ElementsAre(-1, -2));
}

TEST_F(OnnxModelTest, ConfigSignatureThatDisagreesIsRefused) {
  const TensorSpec x = {"x", DType::kFloat32, {3}}, y = {"y", DType::kFloat32, {3}};
  const struct {
    Signature signature;
    std::string message;
  } kCases[] = {
      {{.inputs = {{"x", DType::kInt32, {3}}}, .outputs = {y}}, "x: int32[3]"},
      {{.inputs = {{"x", DType::kFloat32, {4}}}, .outputs = {y}}, "x: float32[4]"},
      {{.inputs = {{"x", DType::kFloat32, {kDynamicDim}}}, .outputs = {y}}, "but"},
      {{.inputs = {{"x", DType::kFloat32, {1, 3}}}, .outputs = {y}}, "x: float32[1, 3]"},
      {{.inputs = {{"X", DType::kFloat32, {3}}}, .outputs = {y}}, "'X' is not in"},
      {{.inputs = {x}, .outputs = {{"w", DType::kFloat32, {3}}}}, "'w' is not in"},
      {{.inputs = {x, x}, .outputs = {y}}, "'x' twice"},
      {{.inputs = {}, .outputs = {y}}, "lacks the input x: float32[3]"},
      {{.inputs = {x}, .outputs = {}}, "names no output"},
  };
  for (const auto& wrong : kCases) {
    config_.signature = wrong.signature;
    const absl::Status status = StageError(InPlaceProbe({3}).Serialize());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.message));
  }
}

TEST_F(OnnxModelTest, SmallBlockAsksForEveryOutputBeforeGivingUp) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{4}, std::vector<int64_t>{-1}}) {
    auto model = Uploaded(InPlaceProbe(shape));
    ASSERT_NE(model, nullptr);
    const std::vector<float> x = {1, 2, 3, 4};
    const std::string name = "x";
    const std::vector<int64_t> input_shape = {4};
    const TensorView input = View<float>(name, input_shape, x);
    MemorySink small(model->signature(), 8);
    EXPECT_EQ(model->Run({&input, 1}, small).code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(small.asked(), 2u);
    EXPECT_EQ(small.needed(), 32u);
    MemorySink enough(model->signature(), small.needed());
    EXPECT_TRUE(model->Run({&input, 1}, enough).ok());
  }
}

TEST_F(OnnxModelTest, SmallBlockIsCompleteWhereOnlySomeSizesAreKnown) {
  auto model = Uploaded(TinyOnnx()
                            .Input("x", OnnxType::kInt64, {4})
                            .Node("Neg", {"x"}, {"y"})
                            .Node("NonZero", {"x"}, {"where"})
                            .Output("y", OnnxType::kInt64, {4})
                            .Output("where", OnnxType::kInt64, {1, -1}));
  ASSERT_NE(model, nullptr);
  const std::vector<int64_t> x = {0, 5, 0, 7}, shape = {4};
  const std::string name = "x";
  const TensorView input = View<int64_t>(name, shape, x);
  MemorySink small(model->signature(), 8);
  EXPECT_EQ(model->Run({&input, 1}, small).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(small.asked(), 2u);
  EXPECT_EQ(small.needed(), 4 * 8u + 2 * 8u);
}

TEST_F(OnnxModelTest, FailedRunIsAStatusAndTheNextRunWorks) {
  auto model = Uploaded(TinyOnnx()
                            .Input("x", OnnxType::kFloat, {-1})
                            .Input("shape", OnnxType::kInt64, {1})
                            .Node("Reshape", {"x", "shape"}, {"y"})
                            .Output("y", OnnxType::kFloat, {-1}));
  ASSERT_NE(model, nullptr);
  const std::vector<float> x = {1, 2, 3};
  const std::vector<int64_t> x_shape = {3}, shape_shape = {1};
  const std::string names[] = {"x", "shape"};
  for (int64_t size : {5, 3}) {
    const TensorView inputs[] = {View<float>(names[0], x_shape, x),
                                 View<int64_t>(names[1], shape_shape, {&size, 1})};
    MemorySink sink(model->signature());
    const absl::Status run = model->Run(inputs, sink);
    EXPECT_EQ(run.ok(), size == 3) << run;
    if (!run.ok()) {
      EXPECT_THAT(std::string(run.message()), HasSubstr("onnx model 'tiny'"));
    }
  }
}

TEST_F(OnnxModelTest, CallsOutOfOrderAreRefused) {
  Write(InPlaceProbe({1}).Serialize());
  auto model = StageOnnxModel(config_);
  ASSERT_TRUE(model.ok()) << model.status();
  const float x = 1;
  const std::string name = "x";
  const std::vector<int64_t> shape = {1};
  const TensorView input = View<float>(name, shape, {&x, 1});
  MemorySink sink((*model)->signature());
  EXPECT_EQ((*model)->Run({&input, 1}, sink).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE((*model)->Upload({}).ok());
  EXPECT_EQ((*model)->Upload({}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*model)->Run({}, sink).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE((*model)->Run({&input, 1}, sink).ok());
  (*model)->Cleanup();
  EXPECT_EQ((*model)->Run({&input, 1}, sink).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(OnnxModelTest, OptionsAreChecked) {
  const std::pair<std::string, std::string> kBad[] = {{"intra_op_threads", "0"},
                                                      {"intra_op_threads", "many"},
                                                      {"spin", "maybe"},
                                                      {"output_shapes", "guess"},
                                                      {"threads", "2"}};
  for (const auto& [key, value] : kBad) {
    config_.options = {{key, value}};
    const absl::Status status = StageError(InPlaceProbe({3}).Serialize());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("onnx." + key));
  }
  config_.options = {{"intra_op_threads", "2"}, {"spin", "false"}, {"cpu_arena", "false"}};
  auto model = Uploaded(InPlaceProbe({3}));
  ASSERT_NE(model, nullptr);
  EXPECT_THAT(RunProbe(*model, {1, 2, 3}), ElementsAre(-2, -4, -6));
}

TEST_F(OnnxModelTest, OtherDevicesAreRefused) {
  config_.device = "cuda:0";
  const absl::Status status = StageError(InPlaceProbe({3}).Serialize());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
}

}  // namespace
}  // namespace baton::loader

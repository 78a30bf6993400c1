#include <unistd.h>

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "loader/safetensors.h"
#include "tests/loader/allocation_counter.h"
#include "tests/loader/buffer_sink.h"
#include "tests/loader/test_run.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Tensor {
  std::vector<float> values;
  std::vector<int64_t> shape;
};
using Tensors = std::map<std::string, Tensor>;

constexpr char kTwoLayers[] = "loader: dense\ndense: {activations: [relu, softmax]}\n";

// Two layers, 3 -> 40 -> 2, so that one is wider than a vector and one narrower.
Tensors TwoLayers() {
  std::mt19937 engine(7);
  std::normal_distribution<float> values;
  const auto random = [&](std::vector<int64_t> shape) {
    Tensor tensor{.values = std::vector<float>(*ElementCount(shape)), .shape = shape};
    for (float& value : tensor.values) value = values(engine);
    return tensor;
  };
  return {{"layers.0.weight", random({40, 3})},
          {"layers.0.bias", random({40})},
          {"layers.1.weight", random({2, 40})},
          {"layers.1.bias", random({2})}};
}

// The definition, in double.
std::vector<double> Reference(const Tensors& tensors, std::span<const float> input) {
  const auto layer = [&](const std::string& prefix, const std::vector<double>& x) {
    std::vector<double> y;
    for (float value : tensors.at(prefix + ".bias").values) y.push_back(value);
    const Tensor& weight = tensors.at(prefix + ".weight");
    for (size_t out = 0; out < y.size(); ++out) {
      for (size_t in = 0; in < x.size(); ++in) {
        y[out] += double{weight.values[out * x.size() + in]} * x[in];
      }
    }
    return y;
  };
  std::vector<double> hidden = layer("layers.0", {input.begin(), input.end()});
  for (double& value : hidden) value = std::max(value, 0.0);
  std::vector<double> scores = layer("layers.1", hidden);
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score);
  for (double& score : scores) score /= sum;
  return scores;
}

class DenseModelTest : public ::testing::Test {
 protected:
  void Save(const Tensors& tensors) {
    std::vector<TensorToSave> saved;
    for (const auto& [name, tensor] : tensors) {
      saved.push_back(
          {{name, DType::kFloat32, tensor.shape}, std::as_bytes(std::span(tensor.values))});
    }
    const absl::Status status = SaveSafetensors(path_, saved);
    ASSERT_TRUE(status.ok()) << status;
  }

  absl::StatusOr<std::unique_ptr<Model>> Stage(const std::string& yaml) {
    return StageFromYaml(dir_, yaml);
  }

  std::string Error(const Tensors& tensors, const std::string& yaml) {
    Save(tensors);
    const auto model = Stage(yaml);
    EXPECT_FALSE(model.ok());
    return std::string(model.status().message());
  }

  TempDir dir_;
  const std::string path_ = dir_.File("model.safetensors");
  HeapDevice device_;
};

TEST_F(DenseModelTest, ComputesItsDefinitionForAnyBatch) {
  const Tensors tensors = TwoLayers();
  Save(tensors);
  auto model = Stage(kTwoLayers);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(ToString((*model)->signature().inputs[0]), "input: float32[?, 3]");
  EXPECT_EQ(ToString((*model)->signature().outputs[0]), "output: float32[?, 2]");
  ASSERT_TRUE((*model)->Upload(device_.Region((*model)->device_bytes())).ok());
  BufferSink sink((*model)->signature(), 1 << 16);
  for (int64_t rows : {0, 1, 5, 31, 32, 33, 100}) {
    std::vector<float> values(static_cast<size_t>(rows) * 3);
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
    const TestTensor<float> input(values, {rows, 3});
    const TensorView views[] = {input.view()};
    const absl::Status run = (*model)->Run(views, sink);
    ASSERT_TRUE(run.ok()) << run;
    ASSERT_EQ(sink.shape(0), (std::vector<int64_t>{rows, 2}));
    for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
      const auto expected = Reference(tensors, std::span(values).subspan(row * 3, 3));
      for (size_t i = 0; i < 2; ++i) {
        ASSERT_NEAR(sink.As<float>(0)[row * 2 + i], expected[i], 1e-5) << rows << " " << row;
      }
    }
  }
}

// R13: all that Run needs lies in the device region and the loaned block.
TEST_F(DenseModelTest, R13RunAllocatesNothing) {
  Save(TwoLayers());
  auto model = Stage(kTwoLayers);
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE((*model)->Upload(device_.Region((*model)->device_bytes())).ok());
  BufferSink sink((*model)->signature(), 1 << 16);
  const TestTensor<float> input(std::vector<float>(300), {100, 3});
  const TensorView views[] = {input.view()};
  ASSERT_TRUE((*model)->Run(views, sink).ok());
  const uint64_t before = AllocationsOfThisThread();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE((*model)->Run(views, sink).ok());
  EXPECT_EQ(AllocationsOfThisThread(), before);
}

// The weights that Run uses are those on the device, not a copy of them.
TEST_F(DenseModelTest, WeightsLiveInTheDeviceRegionOnly) {
  Save(TwoLayers());
  auto model = Stage(kTwoLayers);
  ASSERT_TRUE(model.ok()) << model.status();
  const DeviceRegion region = device_.Region((*model)->device_bytes());
  ASSERT_TRUE((*model)->Upload(region).ok());
  std::memset(reinterpret_cast<void*>(region.address), 0, region.bytes);
  BufferSink sink((*model)->signature(), 1 << 16);
  const TestTensor<float> input({1, 2, 3}, {1, 3});
  const TensorView views[] = {input.view()};
  ASSERT_TRUE((*model)->Run(views, sink).ok());
  EXPECT_EQ(sink.As<float>(0)[0], 0.5f);  // softmax of zeros
}

TEST_F(DenseModelTest, SmallResponseIsResourceExhausted) {
  Save(TwoLayers());
  auto model = Stage(kTwoLayers);
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE((*model)->Upload(device_.Region((*model)->device_bytes())).ok());
  BufferSink sink((*model)->signature(), 4);
  const TestTensor<float> input({1, 2, 3}, {1, 3});
  const TensorView views[] = {input.view()};
  EXPECT_EQ((*model)->Run(views, sink).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(sink.bytes(0), 8u);
}

TEST_F(DenseModelTest, LayersMayBeNamedAndNamesComeFromTheSignature) {
  Tensors tensors = TwoLayers();
  Tensors renamed = {{"enc.w", tensors["layers.0.weight"]},
                     {"dec.w", tensors["layers.1.weight"]},
                     {"dec.b", tensors["layers.1.bias"]},
                     {"unused", {{1.0f}, {1}}}};
  Save(renamed);
  auto model = Stage(R"(
loader: dense
signature:
  inputs: [{name: pixels, dtype: float32, shape: [4, 3]}]
  outputs: [{name: scores, dtype: float32, shape: [4, 2]}]
dense:
  layers:
    - {weight: enc.w, activation: relu}
    - {weight: dec.w, bias: dec.b, activation: softmax}
)");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(ToString((*model)->signature().inputs[0]), "pixels: float32[4, 3]");
  tensors["layers.0.bias"].values.assign(40, 0.0f);
  ASSERT_TRUE((*model)->Upload(device_.Region((*model)->device_bytes())).ok());
  BufferSink sink((*model)->signature(), 1 << 16);
  const TestTensor<float> input(std::vector<float>(12, 0.5f), {4, 3});
  const TensorView views[] = {input.view()};
  ASSERT_TRUE((*model)->Run(views, sink).ok());
  const float row[] = {0.5f, 0.5f, 0.5f};
  EXPECT_NEAR(sink.As<float>(0)[7], Reference(tensors, row)[1], 1e-5);
}

TEST_F(DenseModelTest, BadWeightsNameFileAndTensor) {
  Tensors tensors = TwoLayers();
  tensors["layers.1.weight"] = {std::vector<float>(2 * 39), {2, 39}};
  EXPECT_THAT(Error(tensors, kTwoLayers),
              AllOf(HasSubstr(path_), HasSubstr("'layers.1.weight' takes 39"), HasSubstr("40")));
  tensors = TwoLayers();
  tensors["layers.1.bias"] = {std::vector<float>(3), {3}};
  EXPECT_THAT(Error(tensors, kTwoLayers),
              AllOf(HasSubstr("'layers.1.bias'"), HasSubstr("2 outputs")));
  tensors = TwoLayers();
  tensors["layers.0.weight"].shape = {120};
  EXPECT_THAT(Error(tensors, kTwoLayers),
              AllOf(HasSubstr("'layers.0.weight'"), HasSubstr("[outputs, inputs]")));
  tensors = TwoLayers();
  tensors["layers.3.weight"] = tensors["layers.1.weight"];
  EXPECT_THAT(Error(tensors, kTwoLayers), HasSubstr("'layers.3.weight' belongs to no layer"));
  EXPECT_THAT(Error({}, kTwoLayers), HasSubstr("'layers.0.weight'"));
}

TEST_F(DenseModelTest, BadOptionsNameTheConfig) {
  const auto error = [&](const std::string& options) {
    return Error(TwoLayers(), "loader: dense\ndense: {" + options + "}\n");
  };
  EXPECT_THAT(error("activations: [relu]"),
              AllOf(HasSubstr("config.yaml"), HasSubstr("there is none for layers.1")));
  EXPECT_THAT(error("activations: [relu, relu, relu]"), HasSubstr("more than the 2 layers"));
  EXPECT_THAT(error("activations: [relu, sofmax]"),
              AllOf(HasSubstr("dense.activations.1"), HasSubstr("'sofmax'"), HasSubstr("softmax")));
  EXPECT_THAT(error("layers: [{weight: nope}]"), AllOf(HasSubstr(path_), HasSubstr("'nope'")));
  EXPECT_THAT(error("layers: [{bias: layers.0.bias}]"), HasSubstr("needs the name"));
  EXPECT_THAT(error("activations: [relu], layers: [{weight: layers.0.weight}]"),
              HasSubstr("either"));
  EXPECT_THAT(Error(TwoLayers(), std::string(kTwoLayers) +
                                     "signature: {inputs: [{name: x, dtype: float32, shape: [1, "
                                     "4]}], outputs: [{name: y, dtype: float32, shape: [1, 2]}]}"),
              AllOf(HasSubstr("signature"), HasSubstr("float32[?, 3]")));
}

TEST_F(DenseModelTest, CallsOutOfOrderAreRefused) {
  Save(TwoLayers());
  auto model = Stage(kTwoLayers);
  ASSERT_TRUE(model.ok()) << model.status();
  BufferSink sink((*model)->signature(), 1 << 16);
  const TestTensor<float> input({1, 2, 3}, {1, 3});
  const TensorView views[] = {input.view()};
  EXPECT_EQ((*model)->Run(views, sink).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE((*model)->Upload(device_.Region((*model)->device_bytes() - 1)).ok());
  HeapDevice cuda("cuda:0");
  EXPECT_EQ((*model)->Upload(cuda.Region((*model)->device_bytes())).code(),
            absl::StatusCode::kUnimplemented);
  ASSERT_TRUE((*model)->Upload(device_.Region((*model)->device_bytes())).ok());
  EXPECT_FALSE((*model)->Upload(device_.Region((*model)->device_bytes())).ok());
  (*model)->Cleanup();
  EXPECT_EQ((*model)->Run(views, sink).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace baton::loader

// The dense model on the host where OpenBLAS is: which layers and batches go there.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "kernels/dense.h"
#include "loader/safetensors.h"
#include "tests/loader/buffer_sink.h"
#include "tests/loader/test_run.h"

namespace baton::loader {
namespace {

constexpr size_t kInputs = 200;

// Whether this process has opened it. For the whole process: the tests that expect it not to come
// first.
bool HasOpenBlas() {
  std::ifstream maps("/proc/self/maps");
  return absl::StrContains(std::string(std::istreambuf_iterator<char>(maps), {}),
                           "libbaton_openblas.so");
}

class OpenBlasDenseTest : public ::testing::Test {
 protected:
  // One layer of `outputs`, with random weights.
  void Stage(size_t outputs) {
    std::mt19937 engine(7);
    std::uniform_real_distribution<float> values(-1, 1);
    outputs_ = outputs;
    weights_.resize(outputs * kInputs);
    bias_.resize(outputs);
    for (float& weight : weights_) weight = values(engine);
    for (float& bias : bias_) bias = values(engine);
    const std::vector<TensorToSave> tensors = {
        {{"layers.0.weight", DType::kFloat32, {static_cast<int64_t>(outputs), kInputs}},
         std::as_bytes(std::span(weights_))},
        {{"layers.0.bias", DType::kFloat32, {static_cast<int64_t>(outputs)}},
         std::as_bytes(std::span(bias_))}};
    ASSERT_TRUE(SaveSafetensors(dir_.File("model.safetensors"), tensors).ok());
    auto model = StageFromYaml(dir_, "loader: dense\ndense: {activations: [none]}\n");
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    ASSERT_TRUE(model_->Upload(device_.Region(model_->device_bytes())).ok());
  }

  static std::vector<float> Input(size_t rows) {
    std::vector<float> input(rows * kInputs);
    for (size_t i = 0; i < input.size(); ++i) input[i] = std::sin(static_cast<float>(i));
    return input;
  }
  std::vector<float> Run(size_t rows) {
    BufferSink sink(model_->signature(), rows * outputs_ * sizeof(float));
    const TestTensor<float> input(Input(rows), {static_cast<int64_t>(rows), kInputs});
    const TensorView views[] = {input.view()};
    const absl::Status run = model_->Run(views, sink);
    EXPECT_TRUE(run.ok()) << run;
    const std::span<const float> output = sink.As<float>(0);
    return {output.begin(), output.end()};
  }
  std::vector<float> Reference(size_t rows) const {
    const size_t padded = kernels::PaddedColumns(outputs_);
    std::vector<float> packed(kInputs * padded), bias = bias_, output(rows * outputs_);
    kernels::PackWeights(weights_, outputs_, kInputs, packed);
    bias.resize(padded);
    const std::vector<float> input = Input(rows);
    kernels::MatMulBias({.input = input.data(),
                         .weights = packed.data(),
                         .bias = bias.data(),
                         .output = output.data(),
                         .rows = rows,
                         .inputs = kInputs,
                         .outputs = outputs_});
    return output;
  }

  TempDir dir_;
  HeapDevice device_;
  size_t outputs_ = 0;
  std::vector<float> weights_, bias_;
  std::unique_ptr<Model> model_;
};

TEST_F(OpenBlasDenseTest, ASmallModelDoesNotOpenIt) {
  Stage(20);
  EXPECT_FALSE(HasOpenBlas());
  EXPECT_EQ(Run(64), Reference(64));
}

// It adds in an order of its own, so that some bit of so many sums tells who has added.
TEST_F(OpenBlasDenseTest, LargeBatchesOfALargeLayerGoThereAndFewRowsDoNot) {
  Stage(300);
  ASSERT_TRUE(HasOpenBlas());
  EXPECT_EQ(Run(1), Reference(1));
  EXPECT_EQ(Run(15), Reference(15));
  const std::vector<float> expected = Reference(32), actual = Run(32);
  EXPECT_NE(actual, expected);
  ASSERT_EQ(actual.size(), expected.size());
  // Inputs and weights are within 1: at most so much of each sum's magnitude.
  constexpr double kTolerance = 2.0 * (kInputs + 1) * 0x1p-24 * (kInputs + 1);
  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], kTolerance) << i;
  // 40 rows are a tile of 32 for it, and one of 8 for the reference.
  const std::vector<float> forty = Run(40);
  const std::vector<float> last_of_forty(forty.end() - 8 * 300, forty.end());
  const std::vector<float> reference = Reference(40);
  EXPECT_EQ(last_of_forty, std::vector<float>(reference.end() - 8 * 300, reference.end()));
}

}  // namespace
}  // namespace baton::loader

// The same models through a server: what comes back over shared memory is, bit
// for bit, what the model gives in this process.
#include <stdlib.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "baton/front.h"
#include "tests/tools/examples/direct_infer.h"
#include "tools/examples/served_infer.h"

namespace baton::examples {
namespace {

class ServedTest : public DownloadedModelTest {
 protected:
  void SetUp() override {
    Require({ModelDirectory("silero_vad") + "/silero_vad_v5.onnx",
             ModelDirectory("ppocr_det") + "/ppocr_det.onnx",
             ModelDirectory("ppocr_rec") + "/ppocr_rec.onnx"});
    std::string pattern = "/tmp/baton_served_test.XXXXXX";  // short: it holds a socket
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    run_directory_ = pattern;
  }
  void TearDown() override {
    server_.reset();
    if (!run_directory_.empty()) std::filesystem::remove_all(run_directory_);
  }
  // Serves model `name`, and joins it as a second front.
  absl::StatusOr<Infer> Serve(const std::string& name) {
    const char* build = std::getenv("BATON_BINARY_DIR");
    LaunchOptions options;
    options.directory = ModelDirectory(name);
    options.name = name;
    options.supervisor_executable =
        std::string(build == nullptr ? "." : build) + "/bin/baton-supervisor";
    options.front.run_directory = run_directory_;
    auto server = Front::Launch(options);
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    ServedModel model = {.name = name};
    model.front.run_directory = run_directory_;
    return ServedInfer(model);
  }
  static void ExpectSame(const std::string& name, const Infer& served,
                         std::span<const TensorView> inputs) {
    auto direct = DirectInfer(name);
    ASSERT_TRUE(direct.ok()) << direct.status();
    const auto expected = (*direct)(inputs);
    ASSERT_TRUE(expected.ok()) << expected.status();
    // Twice: the second answer is written in place where the first taught the shapes.
    for (int i = 0; i < 2; ++i) {
      const auto outputs = served(inputs);
      ASSERT_TRUE(outputs.ok()) << outputs.status();
      ASSERT_EQ(outputs->size(), expected->size());
      for (size_t at = 0; at < outputs->size(); ++at) {
        EXPECT_EQ((*outputs)[at].spec, (*expected)[at].spec);
        EXPECT_TRUE((*outputs)[at].bytes == (*expected)[at].bytes) << i << " " << at;
      }
    }
  }
  static std::vector<float> Wave(size_t count) {
    std::vector<float> wave(count);
    for (size_t i = 0; i < count; ++i) wave[i] = std::sin(static_cast<float>(i) * 0.05f);
    return wave;
  }

  std::string run_directory_;
  std::unique_ptr<Front> server_;
};

TEST_F(ServedTest, RecurrentModelWithAScalarInput) {
  const auto served = Serve("silero_vad");
  ASSERT_TRUE(served.ok()) << served.status();
  const std::vector<float> window = Wave(576), state = Wave(256);
  const int64_t rate = 16000, window_shape[] = {1, 576}, state_shape[] = {2, 1, 128};
  const TensorView inputs[] = {
      {"input", DType::kFloat32, window_shape, std::as_bytes(std::span(window))},
      {"state", DType::kFloat32, state_shape, std::as_bytes(std::span(state))},
      {"sr", DType::kInt64, {}, std::as_bytes(std::span(&rate, 1))}};
  ExpectSame("silero_vad", *served, inputs);
}

TEST_F(ServedTest, DynamicShapesAndResultsLargerThanTheFirstLoan) {
  const auto served = Serve("ppocr_rec");
  ASSERT_TRUE(served.ok()) << served.status();
  for (int64_t width : {320, 640}) {
    const std::vector<float> line = Wave(3 * 48 * width);
    const int64_t shape[] = {1, 3, 48, width};
    const TensorView input = {"x", DType::kFloat32, shape, std::as_bytes(std::span(line))};
    ExpectSame("ppocr_rec", *served, {&input, 1});
  }
}

TEST_F(ServedTest, WrongInputsAreRefusedAndTheServerGoesOn) {
  const auto served = Serve("ppocr_det");
  ASSERT_TRUE(served.ok()) << served.status();
  const std::vector<float> picture = Wave(3 * 64 * 96);
  const int64_t good[] = {1, 3, 64, 96}, bad[] = {3, 64, 96}, odd[] = {1, 3, 48, 80};
  const auto view = [&](std::span<const int64_t> shape, size_t count) {
    return TensorView{"x", DType::kFloat32, shape, std::as_bytes(std::span(picture).first(count))};
  };
  const TensorView inputs[] = {view(bad, picture.size()), view(odd, 3 * 48 * 80),
                               view(good, picture.size())};
  EXPECT_EQ((*served)({&inputs[0], 1}).status().code(), absl::StatusCode::kInvalidArgument);
  // Fits the signature, but not the network, which halves the picture five times.
  const absl::Status failed = (*served)({&inputs[1], 1}).status();
  EXPECT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.message()), ::testing::HasSubstr("onnx model 'ppocr_det'"));
  ExpectSame("ppocr_det", *served, {&inputs[2], 1});
  EXPECT_EQ(server_->generation(), 1u);
}

}  // namespace
}  // namespace baton::examples

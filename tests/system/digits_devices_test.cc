// The digits model on both devices: the same images to a server on the host and to one on the
// (simulated) GPU. The classes are equal, and the probabilities within what kernels/DESIGN.md
// allows two ways of computing them.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "loader/safetensors.h"
#include "tests/system/device_under_test.h"
#include "tests/system/test_server.h"
#include "tools/examples/digits/heldout.h"

namespace baton::testing {
namespace {

constexpr size_t kClasses = 10;
constexpr double kHalfUlp = 0x1p-24;  // relative, of a float32 that is rounded to nearest

std::string DigitsDirectory() {
  const char* source = std::getenv("BATON_SOURCE_DIR");
  return absl::StrCat(source == nullptr ? "." : source, "/loader/models/digits");
}

// relu(x W0 + b0) W1 + b1, in double, with a bound on how far apart two float32 computations of it
// may be.
class DigitsBound {
 public:
  DigitsBound() {
    absl::StatusOr<loader::SafetensorsFile> file =
        loader::SafetensorsFile::Open(DigitsDirectory() + "/model.safetensors");
    EXPECT_TRUE(file.ok()) << file.status();
    for (const char* name :
         {"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"}) {
      const absl::StatusOr<const loader::StoredTensor*> tensor = file->Find(name);
      EXPECT_TRUE(tensor.ok()) << tensor.status();
      std::vector<float> values((*tensor)->bytes / sizeof(float));
      EXPECT_TRUE(file->Read(**tensor, std::as_writable_bytes(std::span(values))).ok());
      tensors_.push_back(std::move(values));
    }
  }

  // How much two probabilities of this image may differ, relative to either.
  double RelativeTolerance(std::span<const float> pixels) const {
    std::vector<Value> values;
    for (const float pixel : pixels) values.push_back({.value = pixel, .apart = 0});
    values = Layer(values, tensors_[0], tensors_[1]);
    for (Value& value : values) value.value = std::max(value.value, 0.0);
    values = Layer(values, tensors_[2], tensors_[3]);
    double apart = 0;
    for (const Value& value : values) apart = std::max(apart, value.apart);
    return std::expm1(2 * apart) + static_cast<double>(kClasses + 16) * 2 * kHalfUlp;
  }

 private:
  struct Value {
    double value = 0;
    double apart = 0;  // two computations of it, at most
  };
  static std::vector<Value> Layer(const std::vector<Value>& inputs,
                                  const std::vector<float>& weights,
                                  const std::vector<float>& bias) {
    std::vector<Value> outputs;
    for (size_t out = 0; out < bias.size(); ++out) {
      Value sum = {.value = bias[out], .apart = 0};
      double magnitudes = std::fabs(bias[out]);
      for (size_t in = 0; in < inputs.size(); ++in) {
        const double weight = weights[out * inputs.size() + in];
        sum.value += weight * inputs[in].value;
        sum.apart += std::fabs(weight) * inputs[in].apart;
        magnitudes += std::fabs(weight) * (std::fabs(inputs[in].value) + inputs[in].apart);
      }
      sum.apart += 2 * static_cast<double>(inputs.size() + 1) * kHalfUlp * magnitudes;
      outputs.push_back(sum);
    }
    return outputs;
  }

  std::vector<std::vector<float>> tensors_;
};

class DigitsDevicesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(SimulatedGpu(), nullptr) << "run me with ctest, or set BATON_TEST_DEVICE=simgpu";
    ::setenv("BATON_TEST_MARK", temp_.path().c_str(), 1);
    ::mkdir((temp_.path() + "/run").c_str(), 0700);
    absl::StatusOr<examples::Heldout> heldout = examples::ReadHeldout(DigitsDirectory());
    ASSERT_TRUE(heldout.ok()) << heldout.status();
    heldout_ = *std::move(heldout);
    ASSERT_GE(heldout_.labels.size(), 300u);
  }

  std::unique_ptr<Front> Serve(const std::string& device) {
    LaunchOptions options;
    options.directory = DigitsDirectory();
    options.device = device;
    options.front.run_directory = temp_.path() + "/run";
    absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(options);
    EXPECT_TRUE(front.ok()) << front.status();
    return front.ok() ? *std::move(front) : nullptr;
  }

  absl::StatusOr<std::vector<float>> Scores(Channel& channel, size_t from, size_t count) const {
    absl::StatusOr<Request> request = channel.NewRequest(
        {{"pixels",
          DType::kFloat32,
          {static_cast<int64_t>(count), static_cast<int64_t>(examples::kPixels)}}});
    if (!request.ok()) return request.status();
    const std::span<float> pixels = request->input<float>("pixels");
    std::copy_n(heldout_.pixels.data() + from * examples::kPixels, pixels.size(), pixels.begin());
    const absl::StatusOr<Response> response =
        channel.Call(*std::move(request), {.timeout = absl::Minutes(1)});
    if (!response.ok()) return response.status();
    const std::span<const float> scores = response->output<float>("scores");
    return std::vector<float>(scores.begin(), scores.end());
  }
  // Of every held-out image, `batch` of them a request.
  std::vector<float> AllScores(Front& front, size_t batch) const {
    absl::StatusOr<Channel> channel = front.OpenChannel();
    EXPECT_TRUE(channel.ok()) << channel.status();
    std::vector<float> all;
    for (size_t at = 0; at < heldout_.labels.size(); at += batch) {
      const auto scores = Scores(*channel, at, std::min(batch, heldout_.labels.size() - at));
      EXPECT_TRUE(scores.ok()) << scores.status();
      if (!scores.ok()) break;
      all.insert(all.end(), scores->begin(), scores->end());
    }
    EXPECT_EQ(all.size(), heldout_.labels.size() * kClasses);
    return all;
  }

  // Image by image.
  void ExpectTheSame(const std::vector<float>& host, const std::vector<float>& gpu) const {
    ASSERT_EQ(host.size(), heldout_.labels.size() * kClasses);
    ASSERT_EQ(gpu.size(), host.size());
    const DigitsBound bound;
    for (size_t image = 0; image < heldout_.labels.size(); ++image) {
      const auto here = std::span(host).subspan(image * kClasses, kClasses);
      const auto there = std::span(gpu).subspan(image * kClasses, kClasses);
      EXPECT_EQ(std::ranges::max_element(here) - here.begin(),
                std::ranges::max_element(there) - there.begin())
          << "image " << image;
      const double relative = bound.RelativeTolerance(
          std::span(heldout_.pixels).subspan(image * examples::kPixels, examples::kPixels));
      ASSERT_LT(relative, 0.05) << "the tolerance says nothing";
      for (size_t i = 0; i < kClasses; ++i) {
        // What is too small for a float's full precision may be off by its smallest normal.
        const double tolerance = here[i] * relative + std::numeric_limits<float>::min();
        ASSERT_NEAR(there[i], here[i], tolerance) << "image " << image << ", class " << i;
      }
    }
  }

  TempDirectory temp_;
  examples::Heldout heldout_;
};

TEST_F(DigitsDevicesTest, HostAndGpuGiveTheSameAnswers) {
  const std::unique_ptr<Front> host = Serve("host");
  ASSERT_NE(host, nullptr);
  ASSERT_EQ(SimulatedGpu()->BytesInUse(), 0u);
  const std::unique_ptr<Front> gpu = Serve("cuda:0");
  ASSERT_NE(gpu, nullptr);
  // (64 + 10 padded to 16) x 64 weights.
  EXPECT_GE(SimulatedGpu()->BytesInUse(), (64 + 16) * 64 * sizeof(float));
  // One image, a ragged tile of the host's 32 rows, all of them in one tile of the GPU's.
  const std::vector<float> one_by_one = AllScores(*host, 1);
  for (const size_t batch : {size_t{1}, size_t{33}, heldout_.labels.size()}) {
    SCOPED_TRACE(batch);
    ExpectTheSame(AllScores(*host, batch), AllScores(*gpu, batch));
    ExpectTheSame(one_by_one, AllScores(*gpu, batch));
  }
}

// What is compared is computed by the GPU's kernels: with those broken only the host still answers.
TEST_F(DigitsDevicesTest, TheGpuComputesWhatItAnswers) {
  const std::unique_ptr<Front> host = Serve("host");
  const std::unique_ptr<Front> gpu = Serve("cuda:0");
  ASSERT_TRUE(host != nullptr && gpu != nullptr);
  absl::StatusOr<Channel> on_host = host->OpenChannel();
  absl::StatusOr<Channel> on_gpu = gpu->OpenChannel();
  ASSERT_TRUE(on_host.ok() && on_gpu.ok());
  EXPECT_TRUE(Scores(*on_gpu, 0, 1).ok());
  SimulatedGpu()->SetKnob("fault.baton_softmax_rows", 719);  // CUDA_ERROR_LAUNCH_FAILED
  EXPECT_FALSE(Scores(*on_gpu, 0, 1).ok());
  EXPECT_TRUE(Scores(*on_host, 0, 1).ok());
  SimulatedGpu()->ClearKnob("fault.baton_softmax_rows");
}

}  // namespace
}  // namespace baton::testing

// The digits model on the images that its training never saw, without a worker.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "gtest/gtest.h"

#include "loader/model.h"
#include "loader/model_config.h"
#include "loader/npy.h"
#include "tests/loader/buffer_sink.h"
#include "tests/loader/heap_device.h"

namespace baton::loader {
namespace {

std::string DigitsDirectory() {
  const char* source = std::getenv("BATON_SOURCE_DIR");
  EXPECT_NE(source, nullptr) << "run me with ctest, or set BATON_SOURCE_DIR";
  return std::string(source == nullptr ? "." : source) + "/loader/models/digits";
}

TEST(DigitsTest, ReadsHeldOutImages) {
  const auto pixels = LoadNpy(DigitsDirectory() + "/heldout_pixels.npy");
  const auto labels = LoadNpy(DigitsDirectory() + "/heldout_labels.npy");
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  ASSERT_TRUE(labels.ok()) << labels.status();
  const size_t count = static_cast<size_t>(pixels->shape[0]);
  ASSERT_GE(count, 300u);
  ASSERT_EQ(labels->bytes.size(), count);

  const auto config = LoadModelConfig(DigitsDirectory());
  ASSERT_TRUE(config.ok()) << config.status();
  auto model = StageModel(*config);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(ToString((*model)->signature().inputs[0]), "pixels: float32[?, 64]");
  EXPECT_EQ(ToString((*model)->signature().outputs[0]), "scores: float32[?, 10]");
  HeapDevice device;
  ASSERT_TRUE((*model)->Upload(device.Region((*model)->device_bytes())).ok());

  BufferSink sink((*model)->signature(), count * 10 * sizeof(float));
  const TensorView input{"pixels", pixels->dtype, pixels->shape, pixels->bytes};
  const absl::Status run = (*model)->Run(std::span(&input, 1), sink);
  ASSERT_TRUE(run.ok()) << run;
  const std::span<const float> scores = sink.As<float>(0);
  size_t right = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto row = scores.subspan(i * 10, 10);
    float sum = 0;
    for (float score : row) sum += score;
    EXPECT_NEAR(sum, 1.0f, 1e-4) << i;
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    if (best == static_cast<int>(labels->bytes[i])) ++right;
  }
  const double accuracy = static_cast<double>(right) / static_cast<double>(count);
  RecordProperty("accuracy", std::to_string(accuracy));
  EXPECT_GE(accuracy, 0.97);
}

}  // namespace
}  // namespace baton::loader

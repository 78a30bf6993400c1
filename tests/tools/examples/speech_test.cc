// From probabilities to segments, without a model.
#include "tools/examples/vad/speech.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace baton::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Runs of equal probabilities, one a window.
std::vector<float> Windows(const std::vector<std::pair<int, float>>& runs) {
  std::vector<float> windows;
  for (const auto& [count, probability] : runs) {
    windows.insert(windows.end(), count, probability);
  }
  return windows;
}

std::vector<SpeechSegment> Find(const std::vector<float>& windows,
                                const SpeechOptions& options = {}) {
  return FindSpeech(windows, static_cast<int>(windows.size()) * kSpeechWindow, options);
}

constexpr int Samples(int windows) { return windows * kSpeechWindow; }

TEST(FindSpeech, NothingInSilence) {
  EXPECT_THAT(Find({}), IsEmpty());
  EXPECT_THAT(Find(Windows({{100, 0.1f}})), IsEmpty());
}

TEST(FindSpeech, SegmentIsPaddedWithinTheRecording) {
  EXPECT_THAT(Find(Windows({{10, 0}, {20, 0.9f}, {10, 0}})),
              ElementsAre(SpeechSegment{Samples(10) - 480, Samples(30) + 480}));
  EXPECT_THAT(Find(Windows({{20, 0.9f}})), ElementsAre(SpeechSegment{0, Samples(20)}));
}

TEST(FindSpeech, HysteresisBridgesTheBandBetweenTheThresholds) {
  EXPECT_THAT(Find(Windows({{10, 0}, {8, 0.9f}, {8, 0.4f}, {8, 0.9f}, {10, 0}})),
              ElementsAre(SpeechSegment{Samples(10) - 480, Samples(34) + 480}));
  EXPECT_THAT(Find(Windows({{10, 0}, {30, 0.4f}})), IsEmpty());  // never starts
}

TEST(FindSpeech, ShortPausesJoinAndLongOnesSplit) {
  EXPECT_THAT(Find(Windows({{10, 0}, {10, 0.9f}, {3, 0}, {10, 0.9f}, {10, 0}})),
              ElementsAre(SpeechSegment{Samples(10) - 480, Samples(33) + 480}));
  EXPECT_THAT(Find(Windows({{10, 0}, {10, 0.9f}, {4, 0}, {10, 0.9f}, {10, 0}})),
              ElementsAre(SpeechSegment{Samples(10) - 480, Samples(20) + 480},
                          SpeechSegment{Samples(24) - 480, Samples(34) + 480}));
}

TEST(FindSpeech, ShortNoisesAreDropped) {
  EXPECT_THAT(Find(Windows({{10, 0}, {7, 0.9f}, {10, 0}})), IsEmpty());
}

TEST(FindSpeech, NeighboursShareAGapTooShortForBothPads) {
  SpeechOptions options;
  options.pad_samples = Samples(10);
  EXPECT_THAT(Find(Windows({{20, 0}, {10, 0.9f}, {4, 0}, {10, 0.9f}, {20, 0}}), options),
              ElementsAre(SpeechSegment{Samples(10), Samples(32)},
                          SpeechSegment{Samples(32), Samples(54)}));
}

TEST(SpeechProbabilities, CarriesContextAndStateFromWindowToWindow) {
  std::vector<float> samples(2 * kSpeechWindow + 100);
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<float>(i + 1);
  int calls = 0;
  const Infer infer =
      [&](std::span<const TensorView> inputs) -> absl::StatusOr<std::vector<OwnedTensor>> {
    const auto window = inputs[0].As<float>();
    const auto state = inputs[1].As<float>();
    EXPECT_EQ(window.size(), 576u);
    EXPECT_EQ(window[0], calls == 0 ? 0.0f : calls * 512.0f - 63.0f);
    EXPECT_EQ(window[64], calls * 512.0f + 1.0f);
    EXPECT_EQ(window[64 + 100],
              calls == 2 ? 0.0f : calls * 512.0f + 101.0f);  // the end is filled up
    EXPECT_EQ(state[255], static_cast<float>(calls));
    EXPECT_EQ(inputs[2].As<int64_t>()[0], 16000);
    ++calls;
    const std::vector<float> next(256, static_cast<float>(calls));
    const float probability = static_cast<float>(calls) / 10;
    const auto copy = [](std::span<const std::byte> bytes) {
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    };
    return std::vector<OwnedTensor>{
        {{"output", DType::kFloat32, {1, 1}}, copy(std::as_bytes(std::span(&probability, 1)))},
        {{"stateN", DType::kFloat32, {2, 1, 128}}, copy(std::as_bytes(std::span(next)))}};
  };
  const auto probabilities = SpeechProbabilities(samples, infer);
  ASSERT_TRUE(probabilities.ok()) << probabilities.status();
  EXPECT_THAT(*probabilities, ElementsAre(0.1f, 0.2f, 0.3f));
}

TEST(SpeechProbabilities, WrongModelIsAnError) {
  const Infer infer = [](std::span<const TensorView>) -> absl::StatusOr<std::vector<OwnedTensor>> {
    return std::vector<OwnedTensor>{};
  };
  EXPECT_FALSE(SpeechProbabilities(std::vector<float>(600), infer).ok());
}

}  // namespace
}  // namespace baton::examples

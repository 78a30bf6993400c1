// Silero VAD on the spoken recordings of Debian's alsa-utils.
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/tools/examples/direct_infer.h"
#include "tools/examples/vad/recording.h"
#include "tools/examples/vad/speech.h"

namespace baton::examples {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const char kSounds[] = "/usr/share/sounds/alsa/";

class VadTest : public DownloadedModelTest {
 protected:
  void SetUp() override {
    Require({ModelDirectory("silero_vad") + "/silero_vad_v5.onnx",
             std::string(kSounds) + "Front_Center.wav"});
    if (IsSkipped() || HasFatalFailure()) return;
    auto infer = DirectInfer("silero_vad");
    ASSERT_TRUE(infer.ok()) << infer.status();
    infer_ = *infer;
  }
  std::vector<float> Sound(const std::string& name) {
    auto sound = ReadRecording(kSounds + name, kSpeechSampleRate);
    EXPECT_TRUE(sound.ok()) << sound.status();
    return sound.ok() ? *sound : std::vector<float>();
  }
  std::vector<SpeechSegment> Speech(const std::vector<float>& samples) {
    auto probabilities = SpeechProbabilities(samples, infer_);
    EXPECT_TRUE(probabilities.ok()) << probabilities.status();
    if (!probabilities.ok()) return {};
    return FindSpeech(*probabilities, static_cast<int>(samples.size()));
  }

  Infer infer_;
};

TEST_F(VadTest, EveryAnnouncementIsSpeech) {
  for (const char* name :
       {"Front_Center.wav", "Front_Left.wav", "Front_Right.wav", "Rear_Center.wav", "Rear_Left.wav",
        "Rear_Right.wav", "Side_Left.wav", "Side_Right.wav"}) {
    int spoken = 0;
    for (const SpeechSegment& segment : Speech(Sound(name))) spoken += segment.end - segment.begin;
    EXPECT_GE(spoken, kSpeechSampleRate / 2) << name;
  }
}

TEST_F(VadTest, NoSpeechInSilenceNoiseOrAHum) {
  EXPECT_THAT(Speech(std::vector<float>(5 * kSpeechSampleRate)), IsEmpty());
  EXPECT_THAT(Speech(Sound("Noise.wav")), IsEmpty());
  std::vector<float> hum(3 * kSpeechSampleRate);
  for (size_t i = 0; i < hum.size(); ++i) {
    hum[i] = 0.1f * std::sin(2 * 3.14159265f * 50 * static_cast<float>(i) / kSpeechSampleRate);
  }
  EXPECT_THAT(Speech(hum), IsEmpty());
}

TEST_F(VadTest, SpeechIsFoundWhereItIs) {
  const std::vector<float> silence(2 * kSpeechSampleRate);
  const std::vector<float> front = Sound("Front_Center.wav"), rear = Sound("Rear_Left.wav");
  std::vector<float> samples;
  for (const auto* part : {&silence, &front, &silence, &rear, &silence}) {
    samples.insert(samples.end(), part->begin(), part->end());
  }
  const int front_begin = static_cast<int>(silence.size());
  const int front_end = front_begin + static_cast<int>(front.size());
  const int rear_begin = front_end + static_cast<int>(silence.size());
  const int rear_end = rear_begin + static_cast<int>(rear.size());
  const int tolerance = kSpeechSampleRate / 5;
  bool in_front = false, in_rear = false;
  for (const SpeechSegment& segment : Speech(samples)) {
    const auto within = [&](int begin, int end) {
      return segment.begin >= begin - tolerance && segment.end <= end + tolerance;
    };
    const bool front_has_it = within(front_begin, front_end);
    const bool rear_has_it = within(rear_begin, rear_end);
    EXPECT_TRUE(front_has_it || rear_has_it) << segment.begin << " to " << segment.end;
    in_front = in_front || front_has_it;
    in_rear = in_rear || rear_has_it;
  }
  EXPECT_TRUE(in_front && in_rear);
}

TEST(ReadRecording, ResamplesToTheRateThatWasAskedFor) {
  const std::string path = std::string(kSounds) + "Front_Center.wav";  // 48 kHz
  if (!std::ifstream(path)) GTEST_SKIP() << path << " is missing: run tools/setup";
  const auto full = ReadRecording(path, 48000), third = ReadRecording(path, 16000);
  ASSERT_TRUE(full.ok() && third.ok());
  EXPECT_NEAR(static_cast<double>(third->size()), full->size() / 3.0, 2);
  double full_power = 0, third_power = 0;
  for (float sample : *full) full_power += sample * sample;
  for (float sample : *third) third_power += sample * sample;
  // Speech has little above 8 kHz, so its power stays.
  EXPECT_NEAR(third_power / third->size(), full_power / full->size(),
              0.05 * full_power / full->size());
}

TEST(ReadRecording, BadFilesAreNamed) {
  EXPECT_EQ(ReadRecording("/nowhere.wav", 16000).status().code(), absl::StatusCode::kNotFound);
  const std::string path = ::testing::TempDir() + "no_sound.wav";
  std::ofstream(path) << "this is no sound";
  const absl::Status status = ReadRecording(path, 16000).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(path));
}

}  // namespace
}  // namespace baton::examples

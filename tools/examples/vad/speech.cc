#include "tools/examples/vad/speech.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace baton::examples {
namespace {

constexpr int64_t kStateShape[] = {2, 1, 128};
constexpr size_t kStateElements = 2 * 1 * 128;
constexpr int64_t kWindowShape[] = {1, kSpeechContext + kSpeechWindow};

// Segments before padding: hysteresis between the two thresholds.
std::vector<SpeechSegment> Unpadded(std::span<const float> probabilities, int total_samples,
                                    const SpeechOptions& options) {
  std::vector<SpeechSegment> segments;
  std::optional<int> begin;       // of the speech we are in
  std::optional<int> quiet_from;  // the pause that may end it
  const auto close = [&](int end) {
    if (end - *begin >= options.min_speech_samples) segments.push_back({*begin, end});
    begin.reset();
    quiet_from.reset();
  };
  for (size_t i = 0; i < probabilities.size(); ++i) {
    const int at = static_cast<int>(i) * kSpeechWindow;
    if (probabilities[i] >= options.start_threshold) {
      if (!begin) begin = at;
      quiet_from.reset();
    } else if (begin && probabilities[i] < options.stop_threshold) {
      if (!quiet_from) quiet_from = at;
      if (at + kSpeechWindow - *quiet_from >= options.min_silence_samples) close(*quiet_from);
    }
  }
  if (begin) close(quiet_from.value_or(total_samples));
  return segments;
}

}  // namespace

absl::StatusOr<std::vector<float>> SpeechProbabilities(std::span<const float> samples,
                                                       const Infer& infer) {
  std::array<float, kSpeechContext + kSpeechWindow> window = {};
  std::vector<float> state(kStateElements);
  const int64_t sample_rate = kSpeechSampleRate;
  std::vector<float> probabilities;
  probabilities.reserve(samples.size() / kSpeechWindow + 1);
  for (size_t at = 0; at < samples.size(); at += kSpeechWindow) {
    const auto fresh = samples.subspan(at, std::min<size_t>(kSpeechWindow, samples.size() - at));
    // The end of the window before is this one's context.
    std::copy(window.end() - kSpeechContext, window.end(), window.begin());
    const auto end = std::copy(fresh.begin(), fresh.end(), window.begin() + kSpeechContext);
    std::fill(end, window.end(), 0.0f);

    const TensorView inputs[] = {
        {"input", DType::kFloat32, kWindowShape, std::as_bytes(std::span(window))},
        {"state", DType::kFloat32, kStateShape, std::as_bytes(std::span(state))},
        {"sr", DType::kInt64, {}, std::as_bytes(std::span(&sample_rate, 1))}};
    auto outputs = infer(inputs);
    if (!outputs.ok()) return outputs.status();
    auto probability = OutputAs<float>(*outputs, 0);
    if (!probability.ok()) return probability.status();
    auto next_state = OutputAs<float>(*outputs, 1);
    if (!next_state.ok()) return next_state.status();
    if (probability->size() != 1 || next_state->size() != state.size()) {
      return absl::InternalError("the model's outputs are not those of Silero VAD v5");
    }
    probabilities.push_back(probability->front());
    state = *std::move(next_state);
  }
  return probabilities;
}

std::vector<SpeechSegment> FindSpeech(std::span<const float> probabilities, int total_samples,
                                      const SpeechOptions& options) {
  std::vector<SpeechSegment> segments = Unpadded(probabilities, total_samples, options);
  for (size_t i = 0; i < segments.size(); ++i) {
    // Two neighbours share a gap that is too short for both pads. The one before has grown by now.
    const int before = i == 0 ? segments[i].begin : segments[i].begin - segments[i - 1].end;
    segments[i].begin -= std::min(options.pad_samples, before);
    const int after = i + 1 == segments.size() ? total_samples - segments[i].end
                                               : (segments[i + 1].begin - segments[i].end) / 2;
    segments[i].end += std::clamp(after, 0, options.pad_samples);
  }
  return segments;
}

}  // namespace baton::examples

// Where in a recording somebody speaks, by Silero VAD v5.
#ifndef BATON_TOOLS_EXAMPLES_VAD_SPEECH_H_
#define BATON_TOOLS_EXAMPLES_VAD_SPEECH_H_

#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "tools/examples/infer.h"

namespace baton::examples {

inline constexpr int kSpeechSampleRate = 16000;  // Hz
inline constexpr int kSpeechWindow = 512;        // samples, 32 ms: one probability each
inline constexpr int kSpeechContext = 64;        // samples before a window that the model sees too

// The probability of speech in each window of `samples` (16 kHz, mono); the last
// one is filled up with silence. Runs the model once a window, in order: it
// gives back a state that the next run takes.
absl::StatusOr<std::vector<float>> SpeechProbabilities(std::span<const float> samples,
                                                       const Infer& infer);

struct SpeechOptions {
  float start_threshold = 0.5f;    // speech starts at this probability,
  float stop_threshold = 0.35f;    // and goes on until it stays below this one
  int min_silence_samples = 1600;  // for so long (100 ms)
  int min_speech_samples = 4000;   // shorter speech is noise (250 ms)
  int pad_samples = 480;           // added on both sides (30 ms)
};

// Samples [begin, end) of a recording.
struct SpeechSegment {
  int begin = 0;
  int end = 0;

  friend bool operator==(const SpeechSegment&, const SpeechSegment&) = default;
};

// Segments of speech, ascending and disjoint, within [0, total_samples).
std::vector<SpeechSegment> FindSpeech(std::span<const float> probabilities, int total_samples,
                                      const SpeechOptions& options = {});

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_VAD_SPEECH_H_

// Sound files as the models want them.
#ifndef BATON_TOOLS_EXAMPLES_VAD_RECORDING_H_
#define BATON_TOOLS_EXAMPLES_VAD_RECORDING_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baton::examples {

// Reads a sound file (WAV, FLAC, Ogg: what libsndfile knows) of at most an hour
// as mono samples in [-1, 1] at `sample_rate` Hz. Channels are averaged.
// INVALID_ARGUMENT or NOT_FOUND with the path.
absl::StatusOr<std::vector<float>> ReadRecording(const std::string& path, int sample_rate);

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_VAD_RECORDING_H_

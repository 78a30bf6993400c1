// baton-vad: where in recordings somebody speaks, asked of a served Silero VAD.
//
//   shmctl serve BUILD/models/silero_vad &
//   baton-vad /usr/share/sounds/alsa/*.wav --silence 3
#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include <CLI/CLI.hpp>

#include "tools/examples/served_infer.h"
#include "tools/examples/vad/recording.h"
#include "tools/examples/vad/speech.h"

namespace baton::examples {
namespace {

struct Arguments {
  ServedModel model = {.name = "silero_vad"};
  std::vector<std::string> files;
  double silence_seconds = 0;
};

absl::Status Report(const std::string& what, const std::vector<float>& samples,
                    const Infer& infer) {
  auto probabilities = SpeechProbabilities(samples, infer);
  if (!probabilities.ok()) return probabilities.status();
  const auto seconds = [](size_t count) { return static_cast<double>(count) / kSpeechSampleRate; };
  std::printf("%s (%.2f s):", what.c_str(), seconds(samples.size()));
  const auto segments = FindSpeech(*probabilities, static_cast<int>(samples.size()));
  if (segments.empty()) std::printf(" no speech");
  for (const SpeechSegment& segment : segments) {
    std::printf(" speech %.2f-%.2f s", seconds(segment.begin), seconds(segment.end));
  }
  std::printf("\n");
  return absl::OkStatus();
}

absl::Status Main(const Arguments& arguments) {
  auto infer = ServedInfer(arguments.model);
  if (!infer.ok()) return infer.status();
  for (const std::string& file : arguments.files) {
    auto samples = ReadRecording(file, kSpeechSampleRate);
    if (!samples.ok()) return samples.status();
    if (absl::Status status = Report(file, *samples, *infer); !status.ok()) return status;
  }
  if (arguments.silence_seconds <= 0) return absl::OkStatus();
  const auto count = static_cast<size_t>(arguments.silence_seconds * kSpeechSampleRate);
  return Report("silence", std::vector<float>(count), *infer);
}

}  // namespace
}  // namespace baton::examples

int main(int argc, char** argv) {
  baton::examples::Arguments arguments;
  CLI::App app("Finds speech in recordings with a served Silero VAD.");
  app.add_option("FILE", arguments.files, "Sound files (WAV, FLAC, Ogg)");
  app.add_option("--server", arguments.model.name, "Name of the server")->capture_default_str();
  app.add_option("--run-directory", arguments.model.front.run_directory,
                 "Where servers are looked up");
  app.add_option("--silence", arguments.silence_seconds,
                 "Also listen to so many seconds of silence")
      ->check(CLI::Range(0.0, 3600.0));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = baton::examples::Main(arguments);
  if (!status.ok()) std::fprintf(stderr, "baton-vad: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

#include "tools/examples/vad/recording.h"

#include <samplerate.h>
#include <sndfile.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::examples {
namespace {

constexpr int kMaxSeconds = 3600;
constexpr int kMaxChannels = 32;

absl::StatusOr<std::vector<float>> Resample(const std::vector<float>& samples, int from, int to,
                                            const std::string& path) {
  if (from == to || samples.empty()) return samples;
  const double ratio = static_cast<double>(to) / from;
  std::vector<float> resampled(static_cast<size_t>(std::ceil(samples.size() * ratio)) + 1);
  SRC_DATA conversion = {};
  conversion.data_in = samples.data();
  conversion.input_frames = static_cast<long>(samples.size());
  conversion.data_out = resampled.data();
  conversion.output_frames = static_cast<long>(resampled.size());
  conversion.src_ratio = ratio;
  if (const int error = src_simple(&conversion, SRC_SINC_MEDIUM_QUALITY, /*channels=*/1)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be resampled from ", from,
                                                   " to ", to, " Hz: ", src_strerror(error)));
  }
  resampled.resize(static_cast<size_t>(conversion.output_frames_gen));
  return resampled;
}

}  // namespace

absl::StatusOr<std::vector<float>> ReadRecording(const std::string& path, int sample_rate) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  SF_INFO info = {};
  const std::unique_ptr<SNDFILE, int (*)(SNDFILE*)> file(sf_open(path.c_str(), SFM_READ, &info),
                                                         sf_close);
  if (file == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", sf_strerror(nullptr)));
  }
  if (info.samplerate <= 0 || info.channels <= 0 || info.channels > kMaxChannels ||
      info.frames < 0 || info.frames / info.samplerate >= kMaxSeconds) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", info.frames, " frames of ",
                                                   info.channels, " channels at ", info.samplerate,
                                                   " Hz: over an hour, or no sound"));
  }
  std::vector<float> interleaved(static_cast<size_t>(info.frames) * info.channels);
  const sf_count_t frames = sf_readf_float(file.get(), interleaved.data(), info.frames);
  std::vector<float> mono(static_cast<size_t>(frames));
  for (size_t i = 0; i < mono.size(); ++i) {
    float sum = 0;
    for (int channel = 0; channel < info.channels; ++channel) {
      sum += interleaved[i * info.channels + channel];
    }
    mono[i] = sum / static_cast<float>(info.channels);
  }
  return Resample(mono, info.samplerate, sample_rate, path);
}

}  // namespace baton::examples

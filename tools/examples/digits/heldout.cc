#include "tools/examples/digits/heldout.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "loader/npy.h"

namespace baton::examples {
namespace {

template <typename T>
absl::StatusOr<std::vector<T>> ReadArray(const std::string& path) {
  absl::StatusOr<loader::NpyArray> array = loader::LoadNpy(path);
  if (!array.ok()) return array.status();
  if (array->dtype != DTypeOf<T>()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is ",
                                                   std::string(DTypeName(array->dtype)), ", not ",
                                                   std::string(DTypeName(DTypeOf<T>()))));
  }
  std::vector<T> values(array->bytes.size() / sizeof(T));
  std::memcpy(values.data(), array->bytes.data(), array->bytes.size());
  return values;
}

}  // namespace

absl::StatusOr<Heldout> ReadHeldout(const std::string& directory) {
  absl::StatusOr<std::vector<float>> pixels = ReadArray<float>(directory + "/heldout_pixels.npy");
  if (!pixels.ok()) return pixels.status();
  absl::StatusOr<std::vector<uint8_t>> labels =
      ReadArray<uint8_t>(directory + "/heldout_labels.npy");
  if (!labels.ok()) return labels.status();
  if (pixels->size() != labels->size() * kPixels || labels->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(directory, ": ", labels->size(), " labels and ",
                                                   pixels->size(), " pixels do not go together"));
  }
  return Heldout{.pixels = *std::move(pixels), .labels = *std::move(labels)};
}

absl::StatusOr<Score> Classify(Front& front, const Heldout& heldout, int64_t batch) {
  absl::StatusOr<Channel> channel = front.OpenChannel();
  if (!channel.ok()) return channel.status();
  Score score;
  const auto images = static_cast<int64_t>(heldout.labels.size());
  for (int64_t at = 0; at < images; at += batch) {
    const int64_t count = std::min(batch, images - at);
    absl::StatusOr<Request> request =
        channel->NewRequest({{"pixels", DType::kFloat32, {count, static_cast<int64_t>(kPixels)}}});
    if (!request.ok()) return request.status();
    const std::span<float> pixels = request->input<float>("pixels");
    std::copy_n(heldout.pixels.begin() + at * static_cast<int64_t>(kPixels), pixels.size(),
                pixels.begin());
    absl::StatusOr<Response> response = channel->Call(*std::move(request));
    if (!response.ok()) return response.status();
    const std::span<const float> scores = response->output<float>("scores");
    const size_t classes = scores.size() / static_cast<size_t>(count);
    if (classes == 0) return absl::InternalError("the model gave no scores");
    for (int64_t i = 0; i < count; ++i) {
      const auto row = scores.subspan(static_cast<size_t>(i) * classes, classes);
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      score.right += best == heldout.labels[static_cast<size_t>(at + i)] ? 1 : 0;
    }
    score.images += static_cast<size_t>(count);
    score.generation = response->generation();
  }
  return score;
}

}  // namespace baton::examples

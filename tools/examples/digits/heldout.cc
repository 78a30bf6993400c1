#include "tools/examples/digits/heldout.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "loader/safetensors.h"

namespace baton::examples {
namespace {

template <typename T>
absl::StatusOr<std::vector<T>> ReadTensor(const loader::SafetensorsFile& file,
                                          const std::string& name) {
  absl::StatusOr<const loader::StoredTensor*> stored = file.Find(name);
  if (!stored.ok()) return stored.status();
  const TensorSpec& spec = (*stored)->spec;
  if (spec.dtype != DTypeOf<T>()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": tensor ", ToString(spec),
                                                   " should be ",
                                                   std::string(DTypeName(DTypeOf<T>()))));
  }
  std::vector<T> values(ElementCount(spec.shape).value_or(0));
  const absl::Status status = file.Read(**stored, std::as_writable_bytes(std::span(values)));
  if (!status.ok()) return status;
  return values;
}

}  // namespace

absl::StatusOr<Heldout> ReadHeldout(const std::string& path) {
  absl::StatusOr<loader::SafetensorsFile> file = loader::SafetensorsFile::Open(path);
  if (!file.ok()) return file.status();
  absl::StatusOr<std::vector<float>> pixels = ReadTensor<float>(*file, "pixels");
  if (!pixels.ok()) return pixels.status();
  absl::StatusOr<std::vector<int64_t>> labels = ReadTensor<int64_t>(*file, "labels");
  if (!labels.ok()) return labels.status();
  if (pixels->size() != labels->size() * kPixels || labels->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", labels->size(), " labels and ",
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

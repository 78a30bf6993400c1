#include "tools/examples/ocr/text_reader.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::examples {
namespace {

constexpr int kLineHeight = 48;
// Shorter lines were filled up to this width in training, longer ones are rare.
constexpr int kMinLineWidth = 320;
constexpr int kMaxLineWidth = 3200;
// Widths are rounded up to this, so that lines come in few shapes: a server plans for each shape.
constexpr int kWidthStep = 32;
constexpr std::array<float, 3> kHalf = {0.5f, 0.5f, 0.5f};

// The width of a line scaled to kLineHeight.
int ScaledWidth(const Picture& line) {
  const double width = std::ceil(static_cast<double>(line.width) * kLineHeight / line.height);
  return static_cast<int>(std::min<double>(width, kMaxLineWidth));
}

// [3, 48, width], the right of a short line filled with zeros.
std::vector<float> LinePlanes(const Picture& line, int width) {
  const int used = ScaledWidth(line);
  const std::vector<float> planes = ToPlanes(line, used, kLineHeight, kHalf, kHalf);
  if (used == width) return planes;
  std::vector<float> filled(static_cast<size_t>(3) * kLineHeight * width);
  for (int row = 0; row < 3 * kLineHeight; ++row) {
    std::copy_n(planes.begin() + static_cast<ptrdiff_t>(row) * used, used,
                filled.begin() + static_cast<ptrdiff_t>(row) * width);
  }
  return filled;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> LoadCharset(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat(path, ": cannot be read; tools/setup downloads ppocr_keys.txt"));
  }
  std::vector<std::string> charset = {""};
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    charset.push_back(line);
  }
  if (charset.size() == 1) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no characters in it"));
  }
  charset.push_back(" ");
  return charset;
}

ReadText DecodeCtc(std::span<const float> probabilities, const std::vector<std::string>& charset) {
  ReadText read;
  float sum = 0;
  int characters = 0;
  size_t previous = 0;  // blank
  for (size_t at = 0; at + charset.size() <= probabilities.size(); at += charset.size()) {
    const auto step = probabilities.subspan(at, charset.size());
    const auto best = std::max_element(step.begin(), step.end());
    const auto index = static_cast<size_t>(best - step.begin());
    if (index != 0 && index != previous) {
      read.text += charset[index];
      sum += *best;
      ++characters;
    }
    previous = index;
  }
  if (characters > 0) read.confidence = sum / static_cast<float>(characters);
  return read;
}

absl::StatusOr<ReadText> ReadLine(const Picture& line, const Infer& infer,
                                  const std::vector<std::string>& charset) {
  if (line.width <= 0 || line.height <= 0) {
    return absl::InvalidArgumentError("ReadLine: the picture is empty");
  }
  const int rounded = (ScaledWidth(line) + kWidthStep - 1) / kWidthStep * kWidthStep;
  const int width = std::max(rounded, kMinLineWidth);
  const std::vector<float> planes = LinePlanes(line, width);
  const int64_t shape[] = {1, 3, kLineHeight, width};
  const TensorView input = {"x", DType::kFloat32, shape, std::as_bytes(std::span(planes))};
  auto outputs = infer({&input, 1});
  if (!outputs.ok()) return outputs.status();
  auto probabilities = OutputAs<float>(*outputs, 0);
  if (!probabilities.ok()) return probabilities.status();
  if (outputs->front().spec.shape.empty() ||
      outputs->front().spec.shape.back() != static_cast<int64_t>(charset.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the recognition model gave ", ToString(outputs->front().spec),
                     ", but the character set has ", charset.size(), " classes"));
  }
  return DecodeCtc(*probabilities, charset);
}

absl::StatusOr<std::vector<PageLine>> ReadPage(const Picture& picture, const Infer& detect,
                                               const Infer& recognise,
                                               const std::vector<std::string>& charset) {
  auto boxes = DetectText(picture, detect);
  if (!boxes.ok()) return boxes.status();
  std::vector<PageLine> lines;
  for (const Box& box : *boxes) {
    auto read = ReadLine(Crop(picture, box), recognise, charset);
    if (!read.ok()) return read.status();
    lines.push_back({box, *std::move(read)});
  }
  return lines;
}

}  // namespace baton::examples

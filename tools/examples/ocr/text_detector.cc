#include "tools/examples/ocr/text_detector.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::examples {
namespace {

// The network halves the picture five times.
constexpr int kStride = 32;
// ImageNet's statistics, which PP-OCR applies to blue, green, red in this order.
constexpr std::array<float, 3> kMean = {0.485f, 0.456f, 0.406f};
constexpr std::array<float, 3> kDeviation = {0.229f, 0.224f, 0.225f};

int ToStride(double size) {
  return std::max(kStride, static_cast<int>(std::lround(size / kStride)) * kStride);
}

struct Component {
  Box box;
  double sum = 0;  // of the probabilities of its pixels
  int pixels = 0;
};

// Collects the text pixels that hang together with `start`, also at corners, and
// marks them as seen.
Component Collect(std::span<const float> map, int width, int height, int start, float threshold,
                  std::vector<bool>& seen, std::vector<int>& stack) {
  Component component{.box = {width, height, 0, 0}};
  seen[start] = true;
  stack.assign(1, start);
  while (!stack.empty()) {
    const int at = stack.back();
    stack.pop_back();
    const int x = at % width, y = at / width;
    component.box = {std::min(component.box.left, x), std::min(component.box.top, y),
                     std::max(component.box.right, x + 1), std::max(component.box.bottom, y + 1)};
    component.sum += map[at];
    ++component.pixels;
    for (int ny = std::max(y - 1, 0); ny <= std::min(y + 1, height - 1); ++ny) {
      for (int nx = std::max(x - 1, 0); nx <= std::min(x + 1, width - 1); ++nx) {
        const int next = ny * width + nx;
        if (seen[next] || map[next] < threshold) continue;
        seen[next] = true;
        stack.push_back(next);
      }
    }
  }
  return component;
}

Box Unclip(const Box& box, float ratio, int width, int height) {
  const double area = static_cast<double>(box.width()) * box.height();
  const double perimeter = 2.0 * (box.width() + box.height());
  const int grow = static_cast<int>(std::lround(area * ratio / perimeter));
  return {std::max(box.left - grow, 0), std::max(box.top - grow, 0),
          std::min(box.right + grow, width), std::min(box.bottom + grow, height)};
}

}  // namespace

std::vector<Box> BoxesOfMap(std::span<const float> map, int width, int height,
                            const DetectorOptions& options) {
  std::vector<bool> seen(map.size());
  std::vector<int> stack;
  std::vector<Box> boxes;
  for (int at = 0; at < static_cast<int>(map.size()); ++at) {
    if (seen[at] || map[at] < options.pixel_threshold) continue;
    const Component component =
        Collect(map, width, height, at, options.pixel_threshold, seen, stack);
    if (std::min(component.box.width(), component.box.height()) < options.min_side) continue;
    if (component.sum / component.pixels < options.box_threshold) continue;
    boxes.push_back(Unclip(component.box, options.unclip_ratio, width, height));
  }
  return boxes;
}

void SortForReading(std::vector<Box>& boxes) {
  const auto middle = [](const Box& box) { return box.top + box.bottom; };
  std::sort(boxes.begin(), boxes.end(),
            [&](const Box& a, const Box& b) { return middle(a) < middle(b); });
  // A box whose middle is above the first one's bottom stands in the same line.
  for (auto line = boxes.begin(); line != boxes.end();) {
    const int bottom = line->bottom;
    const auto end =
        std::find_if(line, boxes.end(), [&](const Box& box) { return middle(box) / 2 >= bottom; });
    std::sort(line, end, [](const Box& a, const Box& b) { return a.left < b.left; });
    line = end;
  }
}

absl::StatusOr<std::vector<Box>> DetectText(const Picture& picture, const Infer& infer,
                                            const DetectorOptions& options) {
  if (picture.width <= 0 || picture.height <= 0) {
    return absl::InvalidArgumentError("DetectText: the picture is empty");
  }
  const double scale = std::min(
      1.0, static_cast<double>(options.max_side) / std::max(picture.width, picture.height));
  const int width = ToStride(picture.width * scale), height = ToStride(picture.height * scale);
  const std::vector<float> planes = ToPlanes(picture, width, height, kMean, kDeviation);
  const int64_t shape[] = {1, 3, height, width};
  const TensorView input = {"x", DType::kFloat32, shape, std::as_bytes(std::span(planes))};
  auto outputs = infer({&input, 1});
  if (!outputs.ok()) return outputs.status();
  auto map = OutputAs<float>(*outputs, 0);
  if (!map.ok()) return map.status();
  if (map->size() != static_cast<size_t>(width) * height) {
    return absl::InternalError(absl::StrCat("the detection model gave ",
                                            ToString(outputs->front().spec), " for a picture of ",
                                            width, " x ", height, " pixels"));
  }
  std::vector<Box> boxes = BoxesOfMap(*map, width, height, options);
  const double across = static_cast<double>(picture.width) / width;
  const double down = static_cast<double>(picture.height) / height;
  for (Box& box : boxes) {
    box = {static_cast<int>(std::floor(box.left * across)),
           static_cast<int>(std::floor(box.top * down)),
           std::min(picture.width, static_cast<int>(std::ceil(box.right * across))),
           std::min(picture.height, static_cast<int>(std::ceil(box.bottom * down)))};
  }
  SortForReading(boxes);
  return boxes;
}

}  // namespace baton::examples

// Pictures in memory: drawn, read from a file, cut and scaled.
#ifndef BATON_TOOLS_EXAMPLES_OCR_PICTURE_H_
#define BATON_TOOLS_EXAMPLES_OCR_PICTURE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baton::examples {

// Pixels [left, right) x [top, bottom) of a picture.
struct Box {
  int left = 0;
  int top = 0;
  int right = 0;
  int bottom = 0;

  int width() const { return right - left; }
  int height() const { return bottom - top; }
  friend bool operator==(const Box&, const Box&) = default;
};

// 8 bits a channel, interleaved blue, green, red: the order PP-OCR was trained on.
struct Picture {
  int width = 0;   // pixels
  int height = 0;  // pixels
  std::vector<uint8_t> bgr;
};

// Sides beyond this many pixels are refused.
inline constexpr int kMaxPictureSide = 16384;

struct TextStyle {
  std::string font = "DejaVu Sans";
  double size = 28;         // pixels
  double line_spacing = 2;  // times the size
  int margin = 32;          // pixels
};

// Black text on white, one line each. `lines` are UTF-8.
absl::StatusOr<Picture> DrawText(const std::vector<std::string>& lines,
                                 const TextStyle& style = {});

absl::StatusOr<Picture> ReadPng(const std::string& path);
absl::Status WritePng(const Picture& picture, const std::string& path);

// The part of `picture` in `box`, which is cut to the picture. Empty where they
// do not meet.
Picture Crop(const Picture& picture, const Box& box);

// Scales bilinearly to `width` x `height` and lays the result out as planes
// [3, height, width], each value (v / 255 - mean) / deviation of its channel.
std::vector<float> ToPlanes(const Picture& picture, int width, int height,
                            const std::array<float, 3>& mean,
                            const std::array<float, 3>& deviation);

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_OCR_PICTURE_H_

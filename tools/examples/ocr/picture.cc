#include "tools/examples/ocr/picture.h"

#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::examples {
namespace {

using Surface = std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)>;
using Canvas = std::unique_ptr<cairo_t, void (*)(cairo_t*)>;

Surface NewSurface(int width, int height) {
  return {cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height), cairo_surface_destroy};
}

Canvas NewCanvas(const Surface& surface) { return {cairo_create(surface.get()), cairo_destroy}; }

// cairo's RGB24 and ARGB32 are words 0x??RRGGBB: blue, green, red, ? on little-endian machines.
void CopyPixels(const Surface& surface, Picture& picture) {
  cairo_surface_flush(surface.get());
  const uint8_t* data = cairo_image_surface_get_data(surface.get());
  const int stride = cairo_image_surface_get_stride(surface.get());
  picture.bgr.resize(static_cast<size_t>(picture.width) * picture.height * 3);
  uint8_t* out = picture.bgr.data();
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x) {
      uint32_t word = 0;
      std::memcpy(&word, data + static_cast<ptrdiff_t>(y) * stride + x * 4, sizeof(word));
      *out++ = static_cast<uint8_t>(word);
      *out++ = static_cast<uint8_t>(word >> 8);
      *out++ = static_cast<uint8_t>(word >> 16);
    }
  }
}

absl::StatusOr<Picture> EmptyPicture(double width, double height, const std::string& what) {
  if (!(width >= 1 && height >= 1 && width <= kMaxPictureSide && height <= kMaxPictureSide)) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", width, " x ", height,
                                                   " pixels; 1 to ", kMaxPictureSide,
                                                   " a side are possible"));
  }
  return Picture{.width = static_cast<int>(width), .height = static_cast<int>(height), .bgr = {}};
}

void SelectFont(cairo_t* canvas, const TextStyle& style) {
  cairo_select_font_face(canvas, style.font.c_str(), CAIRO_FONT_SLANT_NORMAL,
                         CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(canvas, style.size);
}

// White under whatever is drawn later.
void FillWhite(cairo_t* canvas) {
  cairo_set_source_rgb(canvas, 1, 1, 1);
  cairo_paint(canvas);
}

}  // namespace

absl::StatusOr<Picture> DrawText(const std::vector<std::string>& lines, const TextStyle& style) {
  double widest = 0;
  {
    const Surface scratch = NewSurface(1, 1);
    const Canvas canvas = NewCanvas(scratch);
    SelectFont(canvas.get(), style);
    for (const std::string& line : lines) {
      cairo_text_extents_t extents;
      cairo_text_extents(canvas.get(), line.c_str(), &extents);
      widest = std::max(widest, extents.x_advance);
    }
    if (cairo_status(canvas.get()) != CAIRO_STATUS_SUCCESS) {
      return absl::InvalidArgumentError(
          absl::StrCat("DrawText: ", cairo_status_to_string(cairo_status(canvas.get()))));
    }
  }
  const double pitch = style.size * style.line_spacing;
  auto picture = EmptyPicture(
      std::ceil(widest) + 2 * style.margin,
      std::ceil(pitch * static_cast<double>(lines.size())) + 2 * style.margin, "DrawText");
  if (!picture.ok()) return picture.status();
  const Surface surface = NewSurface(picture->width, picture->height);
  const Canvas canvas = NewCanvas(surface);
  FillWhite(canvas.get());
  cairo_set_source_rgb(canvas.get(), 0, 0, 0);
  SelectFont(canvas.get(), style);
  double baseline = style.margin + style.size;
  for (const std::string& line : lines) {
    cairo_move_to(canvas.get(), style.margin, baseline);
    cairo_show_text(canvas.get(), line.c_str());
    baseline += pitch;
  }
  if (cairo_status(canvas.get()) != CAIRO_STATUS_SUCCESS) {
    return absl::InternalError(
        absl::StrCat("DrawText: ", cairo_status_to_string(cairo_status(canvas.get()))));
  }
  CopyPixels(surface, *picture);
  return picture;
}

absl::StatusOr<Picture> ReadPng(const std::string& path) {
  const Surface file(cairo_image_surface_create_from_png(path.c_str()), cairo_surface_destroy);
  const cairo_status_t status = cairo_surface_status(file.get());
  if (status == CAIRO_STATUS_FILE_NOT_FOUND) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  if (status != CAIRO_STATUS_SUCCESS) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a PNG that can be read: ", cairo_status_to_string(status)));
  }
  auto picture = EmptyPicture(cairo_image_surface_get_width(file.get()),
                              cairo_image_surface_get_height(file.get()), path);
  if (!picture.ok()) return picture.status();
  // Drawing it on white settles transparency and the pixel format.
  const Surface surface = NewSurface(picture->width, picture->height);
  const Canvas canvas = NewCanvas(surface);
  FillWhite(canvas.get());
  cairo_set_source_surface(canvas.get(), file.get(), 0, 0);
  cairo_paint(canvas.get());
  CopyPixels(surface, *picture);
  return picture;
}

absl::Status WritePng(const Picture& picture, const std::string& path) {
  const Surface surface = NewSurface(picture.width, picture.height);
  uint8_t* data = cairo_image_surface_get_data(surface.get());
  if (data == nullptr) return absl::InvalidArgumentError(absl::StrCat(path, ": no such picture"));
  const int stride = cairo_image_surface_get_stride(surface.get());
  const uint8_t* in = picture.bgr.data();
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x, in += 3) {
      const uint32_t word = in[0] | in[1] << 8 | in[2] << 16;
      std::memcpy(data + static_cast<ptrdiff_t>(y) * stride + x * 4, &word, sizeof(word));
    }
  }
  cairo_surface_mark_dirty(surface.get());
  const cairo_status_t status = cairo_surface_write_to_png(surface.get(), path.c_str());
  if (status == CAIRO_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", cairo_status_to_string(status)));
}

Picture Crop(const Picture& picture, const Box& box) {
  const int left = std::clamp(box.left, 0, picture.width);
  const int right = std::clamp(box.right, left, picture.width);
  const int top = std::clamp(box.top, 0, picture.height);
  const int bottom = std::clamp(box.bottom, top, picture.height);
  Picture part{.width = right - left, .height = bottom - top, .bgr = {}};
  part.bgr.reserve(static_cast<size_t>(part.width) * part.height * 3);
  for (int y = top; y < bottom; ++y) {
    const auto row = picture.bgr.begin() + (static_cast<ptrdiff_t>(y) * picture.width + left) * 3;
    part.bgr.insert(part.bgr.end(), row, row + static_cast<ptrdiff_t>(part.width) * 3);
  }
  return part;
}

std::vector<float> ToPlanes(const Picture& picture, int width, int height,
                            const std::array<float, 3>& mean,
                            const std::array<float, 3>& deviation) {
  // A sample between the centres of two source pixels.
  struct Between {
    int low, high;
    float weight;  // of high
  };
  const auto between = [](int at, int size, int source_size) {
    const float where = (static_cast<float>(at) + 0.5f) * static_cast<float>(source_size) /
                            static_cast<float>(size) -
                        0.5f;
    const float low = std::floor(where);
    return Between{std::clamp(static_cast<int>(low), 0, source_size - 1),
                   std::clamp(static_cast<int>(low) + 1, 0, source_size - 1), where - low};
  };
  std::vector<float> planes(static_cast<size_t>(width) * height * 3);
  if (picture.width == 0 || picture.height == 0) return planes;
  const auto pixel = [&](int x, int y, int channel) -> float {
    return picture.bgr[(static_cast<size_t>(y) * picture.width + x) * 3 + channel];
  };
  for (int y = 0; y < height; ++y) {
    const Between v = between(y, height, picture.height);
    for (int x = 0; x < width; ++x) {
      const Between h = between(x, width, picture.width);
      for (int c = 0; c < 3; ++c) {
        const float upper = std::lerp(pixel(h.low, v.low, c), pixel(h.high, v.low, c), h.weight);
        const float lower = std::lerp(pixel(h.low, v.high, c), pixel(h.high, v.high, c), h.weight);
        planes[(static_cast<size_t>(c) * height + y) * width + x] =
            (std::lerp(upper, lower, v.weight) / 255.0f - mean[c]) / deviation[c];
      }
    }
  }
  return planes;
}

}  // namespace baton::examples

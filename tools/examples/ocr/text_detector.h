// Where in a picture text is, by PP-OCRv4's detection model.
#ifndef BATON_TOOLS_EXAMPLES_OCR_TEXT_DETECTOR_H_
#define BATON_TOOLS_EXAMPLES_OCR_TEXT_DETECTOR_H_

#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "tools/examples/infer.h"
#include "tools/examples/ocr/picture.h"

namespace baton::examples {

// PP-OCR's defaults for its differentiable-binarization head, but for unclip_ratio: PP-OCR grows by
// 1.5, which is so tight around level lines that the recogniser drops spaces.
struct DetectorOptions {
  float pixel_threshold = 0.3f;  // a pixel is text from this probability on
  float box_threshold = 0.6f;    // a box is text from this mean of its text pixels on
  float unclip_ratio = 2.2f;     // the network learns shrunken boxes: how far to grow them back
  int min_side = 3;              // smaller boxes are specks, in pixels of the map
  int max_side = 960;            // larger pictures are scaled down, in pixels
};

// Upright boxes of lines of text, in reading order, within the picture. Lines
// that are not level get the upright box around them.
absl::StatusOr<std::vector<Box>> DetectText(const Picture& picture, const Infer& infer,
                                            const DetectorOptions& options = {});

// The boxes in a map of probabilities [height, width], from the top left on.
std::vector<Box> BoxesOfMap(std::span<const float> map, int width, int height,
                            const DetectorOptions& options = {});

// Sorts boxes into lines from top to bottom, each from left to right.
void SortForReading(std::vector<Box>& boxes);

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_OCR_TEXT_DETECTOR_H_

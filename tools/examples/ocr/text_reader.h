// What a line of text says, by PP-OCRv4's recognition model; and whole pages.
#ifndef BATON_TOOLS_EXAMPLES_OCR_TEXT_READER_H_
#define BATON_TOOLS_EXAMPLES_OCR_TEXT_READER_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "tools/examples/infer.h"
#include "tools/examples/ocr/picture.h"
#include "tools/examples/ocr/text_detector.h"

namespace baton::examples {

// The classes of the recognition model: entry 0 is the blank of CTC, the last
// one is the space, between them the lines of PP-OCR's ppocr_keys.txt.
absl::StatusOr<std::vector<std::string>> LoadCharset(const std::string& path);

struct ReadText {
  std::string text;      // UTF-8
  float confidence = 0;  // mean probability of its characters; 0 where there are none
};

// Greedy CTC: the likeliest class of each step, repetitions merged, blanks
// dropped. `probabilities` is [steps, charset.size()], row-major.
ReadText DecodeCtc(std::span<const float> probabilities, const std::vector<std::string>& charset);

// Reads a picture of one line.
absl::StatusOr<ReadText> ReadLine(const Picture& line, const Infer& infer,
                                  const std::vector<std::string>& charset);

struct PageLine {
  Box box;
  ReadText read;
};

// Finds and reads the text of `picture`, in reading order.
absl::StatusOr<std::vector<PageLine>> ReadPage(const Picture& picture, const Infer& detect,
                                               const Infer& recognise,
                                               const std::vector<std::string>& charset);

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_OCR_TEXT_READER_H_

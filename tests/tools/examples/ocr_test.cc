// PP-OCRv4 on pictures of text that are drawn here.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/tools/examples/direct_infer.h"
#include "tools/examples/ocr/picture.h"
#include "tools/examples/ocr/text_reader.h"

namespace baton::examples {
namespace {

using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class OcrTest : public DownloadedModelTest {
 protected:
  void SetUp() override {
    const std::string keys = ModelDirectory("ppocr_rec") + "/ppocr_keys.txt";
    Require({ModelDirectory("ppocr_det") + "/ppocr_det.onnx",
             ModelDirectory("ppocr_rec") + "/ppocr_rec.onnx", keys});
    if (IsSkipped() || HasFatalFailure()) return;
    auto detect = DirectInfer("ppocr_det");
    ASSERT_TRUE(detect.ok()) << detect.status();
    auto recognise = DirectInfer("ppocr_rec");
    ASSERT_TRUE(recognise.ok()) << recognise.status();
    auto charset = LoadCharset(keys);
    ASSERT_TRUE(charset.ok()) << charset.status();
    detect_ = *detect;
    recognise_ = *recognise;
    charset_ = *charset;
  }
  std::vector<std::string> Read(const Picture& picture) {
    auto page = ReadPage(picture, detect_, recognise_, charset_);
    EXPECT_TRUE(page.ok()) << page.status();
    std::vector<std::string> texts;
    if (!page.ok()) return texts;
    for (const PageLine& line : *page) {
      EXPECT_GT(line.read.confidence, 0.8) << line.read.text;
      texts.push_back(line.read.text);
    }
    return texts;
  }

  Infer detect_, recognise_;
  std::vector<std::string> charset_;
};

TEST_F(OcrTest, ReadsWhatWasDrawn) {
  const std::vector<std::string> lines = {"The quick brown fox", "jumps over the lazy dog",
                                          "Receipt 1024: verdict freed", "0123456789",
                                          "SHARED MEMORY"};
  const auto picture = DrawText(lines);
  ASSERT_TRUE(picture.ok()) << picture.status();
  EXPECT_THAT(Read(*picture), ElementsAreArray(lines));
}

TEST_F(OcrTest, ReadsOtherFontsAndSizes) {
  const std::vector<std::string> lines = {"Only one runner holds the baton",
                                          "Invoice 2024-117: 42.50 EUR", "one model at a time"};
  for (const char* font : {"DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono"}) {
    for (double size : {20.0, 28.0, 40.0}) {
      TextStyle style;
      style.font = font;
      style.size = size;
      const auto picture = DrawText(lines, style);
      ASSERT_TRUE(picture.ok()) << picture.status();
      EXPECT_THAT(Read(*picture), ElementsAreArray(lines)) << font << " " << size;
    }
  }
}

TEST_F(OcrTest, ReadsNothingOnAnEmptyPage) {
  Picture page{.width = 320, .height = 240, .bgr = {}};
  page.bgr.assign(320 * 240 * 3, 255);
  EXPECT_THAT(Read(page), IsEmpty());
}

TEST_F(OcrTest, WrongCharsetIsAnError) {
  const auto picture = DrawText({"text"});
  ASSERT_TRUE(picture.ok()) << picture.status();
  EXPECT_EQ(ReadLine(*picture, recognise_, {"", "a", " "}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::examples

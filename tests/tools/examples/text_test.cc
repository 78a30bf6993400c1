// The steps around the OCR networks, without them.
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tools/examples/ocr/picture.h"
#include "tools/examples/ocr/text_detector.h"
#include "tools/examples/ocr/text_reader.h"

namespace baton::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void Fill(std::vector<float>& map, int width, const Box& box, float value) {
  for (int y = box.top; y < box.bottom; ++y) {
    for (int x = box.left; x < box.right; ++x) map[y * width + x] = value;
  }
}

TEST(BoxesOfMap, GrowsEachComponentAndDropsSpecksAndDoubts) {
  const int width = 100, height = 60;
  std::vector<float> map(width * height);
  Fill(map, width, {20, 10, 60, 20}, 0.9f);  // area 400, perimeter 100: grows by 9
  Fill(map, width, {80, 10, 82, 20}, 0.9f);  // too thin
  Fill(map, width, {20, 40, 60, 50}, 0.5f);  // doubtful
  EXPECT_THAT(BoxesOfMap(map, width, height), ElementsAre(Box{11, 1, 69, 29}));
}

TEST(BoxesOfMap, ComponentsTouchingAtACornerAreOneAndBoxesStayInside) {
  const int width = 40, height = 20;
  std::vector<float> map(width * height);
  Fill(map, width, {0, 0, 20, 10}, 1);
  Fill(map, width, {20, 10, 40, 20}, 1);
  EXPECT_THAT(BoxesOfMap(map, width, height), ElementsAre(Box{0, 0, 40, 20}));
  EXPECT_THAT(BoxesOfMap(std::vector<float>(width * height), width, height), IsEmpty());
}

TEST(SortForReading, LinesFirstThenColumns) {
  const Box a = {10, 12, 50, 30}, b = {60, 10, 90, 28}, c = {5, 50, 40, 70}, d = {50, 52, 90, 69};
  std::vector<Box> boxes = {d, b, c, a};
  SortForReading(boxes);
  EXPECT_THAT(boxes, ElementsAre(a, b, c, d));
}

TEST(DetectText, ScalesBoxesBackToThePicture) {
  Picture picture{.width = 1920, .height = 960, .bgr = {}};
  picture.bgr.resize(1920 * 960 * 3);
  const Infer infer =
      [](std::span<const TensorView> inputs) -> absl::StatusOr<std::vector<OwnedTensor>> {
    EXPECT_THAT(std::vector<int64_t>(inputs[0].shape.begin(), inputs[0].shape.end()),
                ElementsAre(1, 3, 480, 960));
    std::vector<float> map(480 * 960);
    Fill(map, 960, {100, 100, 140, 110}, 1);
    const auto bytes = std::as_bytes(std::span(map));
    return std::vector<OwnedTensor>{
        {{"map", DType::kFloat32, {1, 1, 480, 960}}, {bytes.begin(), bytes.end()}}};
  };
  const auto boxes = DetectText(picture, infer);
  ASSERT_TRUE(boxes.ok()) << boxes.status();
  EXPECT_THAT(*boxes, ElementsAre(Box{182, 182, 298, 238}));
}

TEST(DecodeCtc, MergesRepetitionsAndDropsBlanks) {
  const std::vector<std::string> charset = {"", "a", "b", " "};
  const std::vector<float> steps = {
      0.1f, 0.9f, 0, 0,     // a
      0.2f, 0.8f, 0, 0,     // a again: the same letter
      1,    0,    0, 0,     // blank
      0,    0.7f, 0, 0.3f,  // a anew
      0,    0,    0, 0.6f,  // space
      0,    0,    1, 0,     // b
  };
  const ReadText read = DecodeCtc(steps, charset);
  EXPECT_EQ(read.text, "aa b");
  EXPECT_NEAR(read.confidence, (0.9 + 0.7 + 0.6 + 1) / 4, 1e-6);
  EXPECT_EQ(DecodeCtc({}, charset).text, "");
}

TEST(LoadCharset, AddsBlankAndSpace) {
  const std::string path = ::testing::TempDir() + "keys.txt";
  std::ofstream(path, std::ios::binary) << "x\ny\r\n\xe6\x87\xae";
  const auto charset = LoadCharset(path);
  ASSERT_TRUE(charset.ok()) << charset.status();
  EXPECT_THAT(*charset, ElementsAre("", "x", "y", "\xe6\x87\xae", " "));
  EXPECT_EQ(LoadCharset("/nowhere/keys.txt").status().code(), absl::StatusCode::kNotFound);
}

TEST(Picture, PngRoundTrips) {
  const auto drawn = DrawText({"Baton"});
  ASSERT_TRUE(drawn.ok()) << drawn.status();
  const std::string path = ::testing::TempDir() + "picture_test.png";
  ASSERT_TRUE(WritePng(*drawn, path).ok());
  const auto read = ReadPng(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->width, drawn->width);
  EXPECT_EQ(read->bgr, drawn->bgr);
  EXPECT_THAT(read->bgr, ::testing::Contains(0));    // ink
  EXPECT_THAT(read->bgr, ::testing::Contains(255));  // paper
}

TEST(Picture, BadPngIsNamed) {
  EXPECT_EQ(ReadPng("/nowhere.png").status().code(), absl::StatusCode::kNotFound);
  const std::string path = ::testing::TempDir() + "no_picture.png";
  std::ofstream(path) << "this is no picture";
  const absl::Status status = ReadPng(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(path));
}

TEST(Picture, PlanesAreScaledNormalisedAndInChannelOrder) {
  const Picture picture{.width = 2, .height = 1, .bgr = {0, 51, 255, 255, 51, 0}};
  EXPECT_THAT(
      ToPlanes(picture, 2, 1, {0, 0, 0}, {1, 1, 1}),
      ::testing::Pointwise(::testing::FloatEq(), std::vector<float>{0, 1, 0.2f, 0.2f, 1, 0}));
  EXPECT_THAT(ToPlanes(picture, 1, 1, {0.5f, 0, 0.5f}, {0.5f, 1, 0.5f}),
              ::testing::Pointwise(::testing::FloatNear(1e-6f), std::vector<float>{0, 0.2f, 0}));
}

TEST(Picture, CropIsCutToThePicture) {
  const Picture picture{.width = 2, .height = 2, .bgr = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4}};
  EXPECT_THAT(Crop(picture, {1, 0, 9, 9}).bgr, ElementsAre(2, 2, 2, 4, 4, 4));
  EXPECT_EQ(Crop(picture, {5, 5, 9, 9}).width, 0);
}

}  // namespace
}  // namespace baton::examples

#include "loader/safetensors.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/temp_dir.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::string FileText(const std::string& json, const std::string& data) {
  const uint64_t length = json.size();
  std::string text(sizeof(length), '\0');
  std::memcpy(text.data(), &length, sizeof(length));
  return text + json + data;
}

// The message of the error that a header gives; "" when it is fine.
std::string Error(const std::string& json, uint64_t data_bytes) {
  return std::string(ParseSafetensorsHeader(json, data_bytes).status().message());
}

TEST(SafetensorsTest, WhatIsSavedIsRead) {
  const TempDir dir;
  std::vector<float> weights(6);
  std::iota(weights.begin(), weights.end(), 1.0f);
  const std::vector<uint8_t> labels = {7, 8, 9};
  const TensorToSave tensors[] = {
      {{"fc \"1\".weight", DType::kFloat32, {2, 3}}, std::as_bytes(std::span(weights))},
      {{"labels", DType::kUInt8, {3}}, std::as_bytes(std::span(labels))},
      {{"empty", DType::kInt64, {0, 5}}, {}},
  };
  const std::string path = dir.File("a.safetensors");
  ASSERT_TRUE(SaveSafetensors(path, tensors, {{"made by", "\"test\"\n"}}).ok());

  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->metadata(), ElementsAre(Pair("made by", "\"test\"\n")));
  ASSERT_EQ(file->tensors().size(), 3u);
  for (const TensorToSave& saved : tensors) {
    const auto found = file->Find(saved.spec.name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ((*found)->spec, saved.spec);
    std::vector<std::byte> bytes((*found)->bytes);
    ASSERT_TRUE(file->Read(**found, bytes).ok());
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), saved.bytes.begin(), saved.bytes.end()));
  }
  const absl::Status missing = file->Find("fc2").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr(path), HasSubstr("'fc2'"), HasSubstr("labels")));
}

TEST(SafetensorsTest, LargeNumbersAreWrittenAsWholeNumbers) {
  SafetensorsHeader header;
  header.tensors.push_back({.spec = {"x", DType::kUInt8, {2'000'000}}, .bytes = 2'000'000});
  EXPECT_THAT(*FormatSafetensorsHeader(header), HasSubstr("[0,2000000]"));
}

TEST(SafetensorsTest, WhatCannotBeReadIsNotWritten) {
  const TempDir dir;
  const std::vector<float> value = {1};
  const TensorToSave wrong_size[] = {
      {{"x", DType::kFloat32, {2}}, std::as_bytes(std::span(value))}};
  EXPECT_FALSE(SaveSafetensors(dir.File("a"), wrong_size).ok());
  const TensorToSave same_name[] = {{{"x", DType::kFloat32, {1}}, std::as_bytes(std::span(value))},
                                    {{"x", DType::kFloat32, {1}}, std::as_bytes(std::span(value))}};
  EXPECT_FALSE(SaveSafetensors(dir.File("a"), same_name).ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(SafetensorsTest, BadFilesNameTheFile) {
  const TempDir dir;
  const auto error = [&](const std::string& text) {
    const std::string path = dir.Write("bad.safetensors", text);
    const absl::Status status = SafetensorsFile::Open(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    return std::string(status.message());
  };
  EXPECT_THAT(error(""), HasSubstr("too few"));
  EXPECT_THAT(error("1234567"), HasSubstr("too few"));
  EXPECT_THAT(error(std::string(8, '\xff')), HasSubstr("does not fit"));
  EXPECT_THAT(error(FileText("{}", "1")), HasSubstr("which has 1"));
  EXPECT_THAT(error(FileText("{", "")), HasSubstr("JSON"));
  EXPECT_THAT(error(FileText(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "1234")),
              AllOf(HasSubstr("tensor 'w'"), HasSubstr("cut?")));
}

TEST(SafetensorsTest, MissingFileAndFolder) {
  const TempDir dir;
  EXPECT_EQ(SafetensorsFile::Open(dir.File("none")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(SafetensorsFile::Open(dir.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SafetensorsTest, HugeHeaderIsRefusedBeforeItIsRead) {
  const TempDir dir;
  const uint64_t length = kMaxSafetensorsHeaderBytes + 1;
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, sizeof(length));
  const std::string path = dir.Write("huge", text);
  std::filesystem::resize_file(path, length + 8);  // sparse
  EXPECT_THAT(std::string(SafetensorsFile::Open(path).status().message()),
              HasSubstr("at most 16777216"));
}

TEST(SafetensorsHeaderTest, OffsetsCoverTheDataExactly) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  EXPECT_EQ(Error(two("[0,4]", "[4,8]"), 8), "");
  EXPECT_EQ(Error(two("[4,8]", "[0,4]"), 8), "");
  EXPECT_THAT(Error(two("[0,4]", "[2,6]"), 8),
              AllOf(HasSubstr("tensor 'b'"), HasSubstr("overlaps tensor 'a'")));
  EXPECT_THAT(Error(two("[0,4]", "[0,4]"), 4), HasSubstr("overlaps"));
  EXPECT_THAT(Error(two("[0,4]", "[5,9]"), 9), AllOf(HasSubstr("tensor 'b'"), HasSubstr("gap")));
  EXPECT_THAT(Error(two("[1,5]", "[5,9]"), 9), AllOf(HasSubstr("tensor 'a'"), HasSubstr("gap")));
  EXPECT_THAT(Error(two("[0,4]", "[4,8]"), 9), HasSubstr("which has 9"));
  EXPECT_THAT(Error(two("[0,4]", "[4,8]"), 7), HasSubstr("tensor 'b'"));
  EXPECT_THAT(Error(two("[0,4]", "[8,4]"), 8), HasSubstr("begin <= end"));
  EXPECT_THAT(Error(two("[0,4]", "[4,8,12]"), 8), HasSubstr("data_offsets"));
  EXPECT_THAT(Error(two("[0,4]", "[-4,0]"), 8), HasSubstr("data_offsets"));
  EXPECT_THAT(Error(two("[0,4]", "[4.5,8.5]"), 8), HasSubstr("data_offsets"));
  EXPECT_THAT(Error(two("[0,4]", "[4,1e300]"), 8), HasSubstr("data_offsets"));
  EXPECT_THAT(Error(two("[0,4]", "\"4,8\""), 8), HasSubstr("data_offsets"));
}

TEST(SafetensorsHeaderTest, DtypeShapeAndSizeAgree) {
  const auto one = [](const std::string& dtype, const std::string& shape) {
    return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":[0,8]}})";
  };
  EXPECT_EQ(Error(one("\"F32\"", "[2]"), 8), "");
  EXPECT_EQ(Error(one("\"F64\"", "[]"), 8), "");
  EXPECT_THAT(Error(one("\"F32\"", "[3]"), 8),
              AllOf(HasSubstr("tensor 'w'"), HasSubstr("float32[3] takes 12")));
  EXPECT_THAT(Error(one("\"F8_E4M3\"", "[8]"), 8), AllOf(HasSubstr("F8_E4M3"), HasSubstr("BF16")));
  EXPECT_THAT(Error(one("32", "[2]"), 8), HasSubstr("dtype"));
  EXPECT_THAT(Error(one("\"F32\"", "[-2]"), 8), HasSubstr("no size"));
  EXPECT_THAT(Error(one("\"F32\"", "2"), 8), HasSubstr("not a list"));
  EXPECT_THAT(Error(one("\"U8\"", "[4294967296,4294967296]"), 8), HasSubstr("too many"));
  EXPECT_THAT(Error(one("\"U8\"", "[1,1,1,1,1,1,1,1,8]"), 8), HasSubstr("dimensions"));
}

TEST(SafetensorsHeaderTest, NamesAndKeysComeOnce) {
  const std::string w = R"("w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(Error("{" + w + "}", 0), "");
  EXPECT_THAT(Error("{" + w + "," + w + "}", 0), HasSubstr("tensor 'w': is given twice"));
  EXPECT_THAT(Error(R"({"w":{"dtype":"U8","dtype":"U8","data_offsets":[0,0]}})", 0),
              HasSubstr("dtype is given twice"));
  EXPECT_THAT(Error(R"({"w":{"dtype":"U8","shape":[0]}})", 0), HasSubstr("data_offsets"));
  EXPECT_THAT(Error(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}})", 0),
              HasSubstr("unknown key 'x'"));
  EXPECT_THAT(Error(R"({"w":3})", 0), HasSubstr("tensor 'w'"));
}

TEST(SafetensorsHeaderTest, MetadataIsStrings) {
  EXPECT_EQ(Error(R"({"__metadata__":{"a":"b"}})", 0), "");
  EXPECT_THAT(Error(R"({"__metadata__":{"a":1}})", 0), HasSubstr("'a' is not a string"));
  EXPECT_THAT(Error(R"({"__metadata__":{"a":"1","a":"2"}})", 0), HasSubstr("twice"));
  EXPECT_THAT(Error(R"({"__metadata__":[]})", 0), HasSubstr("not an object"));
}

TEST(SafetensorsHeaderTest, HostileJsonIsAStatus) {
  EXPECT_THAT(Error("", 0), HasSubstr("'{'"));
  EXPECT_THAT(Error(" {}", 0), HasSubstr("'{'"));
  EXPECT_THAT(Error("[]", 0), HasSubstr("'{'"));
  EXPECT_THAT(Error("{} x", 0), HasSubstr("JSON"));
  EXPECT_THAT(Error("{\"a\":" + std::string(1'000'000, '['), 0), HasSubstr("JSON"));
  EXPECT_THAT(Error("{\"a\":{\"a\":" + std::string(1'000'000, '{'), 0), HasSubstr("JSON"));
  EXPECT_NE(Error(std::string("{\"a\0b\":3}", 9), 0), "");
}

// Opens `path` and reads all it says it has.
void ReadAll(const std::string& path) {
  const auto file = SafetensorsFile::Open(path);
  if (!file.ok()) return;
  for (const StoredTensor& tensor : file->tensors()) {
    std::vector<std::byte> bytes(tensor.bytes);
    EXPECT_TRUE(file->Read(tensor, bytes).ok());
  }
}

class SafetensorsFuzzTest : public ::testing::Test {
 protected:
  SafetensorsFuzzTest() {
    const std::vector<float> weights = {1, 2, 3, 4};
    const std::vector<uint8_t> bytes = {5, 6};
    const TensorToSave tensors[] = {
        {{"layers.0.weight", DType::kFloat32, {2, 2}}, std::as_bytes(std::span(weights))},
        {{"b", DType::kUInt8, {2}}, std::as_bytes(std::span(bytes))}};
    path_ = dir_.File("valid");
    EXPECT_TRUE(SaveSafetensors(path_, tensors, {{"k", "v"}}).ok());
    valid_ = *ReadWholeFile(path_, 1 << 20);
  }

  TempDir dir_;
  std::string path_;
  std::string valid_;
};

TEST_F(SafetensorsFuzzTest, EveryTruncationIsAnError) {
  for (size_t size = 0; size < valid_.size(); ++size) {
    EXPECT_FALSE(SafetensorsFile::Open(dir_.Write("cut", valid_.substr(0, size))).ok()) << size;
  }
}

TEST_F(SafetensorsFuzzTest, EveryChangedByteIsSurvived) {
  for (size_t i = 0; i < valid_.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = valid_;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      ReadAll(dir_.Write("changed", changed));
    }
  }
  // All values of each byte of the JSON, without the file around it.
  const std::string json = valid_.substr(8, valid_.size() - 8 - 18);
  ASSERT_EQ(Error(json, 18), "");
  for (size_t i = 0; i < json.size(); ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = json;
      changed[i] = static_cast<char>(value);
      (void)ParseSafetensorsHeader(changed, 18);
    }
  }
}

// R7: a file that is cut after it was checked gives an error that names the
// tensor, not a SIGBUS.
TEST_F(SafetensorsFuzzTest, R7FileCutWhileItIsStagedIsAnError) {
  const auto file = SafetensorsFile::Open(path_);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(valid_.size() - 3)), 0);
  const StoredTensor& last = file->tensors().back();
  std::vector<std::byte> bytes(last.bytes);
  const absl::Status read = file->Read(last, bytes);
  EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(read.message()), AllOf(HasSubstr(path_), HasSubstr("tensor 'b'")));
}

}  // namespace
}  // namespace baton::loader

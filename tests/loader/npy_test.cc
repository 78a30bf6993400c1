#include "loader/npy.h"

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "loader/file_reader.h"
#include "tests/loader/temp_dir.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string File(const std::string& header, const std::string& data, char version = 1) {
  std::string file = "\x93NUMPY";
  file += {version, '\0', static_cast<char>(header.size() & 0xff),
           static_cast<char>(header.size() >> 8)};
  if (version > 1) file += std::string(2, '\0');
  return file + header + data;
}

absl::StatusOr<NpyArray> Parse(const std::string& file) {
  return ParseNpy("x.npy", std::as_bytes(std::span(file)));
}

std::string Error(const std::string& header, const std::string& data = "") {
  const auto array = Parse(File(header, data));
  EXPECT_FALSE(array.ok()) << header;
  return std::string(array.status().message());
}

TEST(NpyTest, WhatIsSavedIsRead) {
  const TempDir dir;
  const std::vector<std::vector<int64_t>> shapes = {{}, {6}, {2, 3}, {1, 2, 3, 0}};
  for (uint8_t number = 1; number <= kMaxDType; ++number) {
    const DType dtype{number};
    for (const std::vector<int64_t>& shape : shapes) {
      std::vector<std::byte> bytes(*TensorBytes(dtype, shape));
      for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
      const absl::Status saved = SaveNpy(dir.File("a.npy"), dtype, shape, bytes);
      if (dtype == DType::kBFloat16) {
        EXPECT_THAT(std::string(saved.message()), HasSubstr("bfloat16"));
        continue;
      }
      ASSERT_TRUE(saved.ok()) << saved;
      const auto array = LoadNpy(dir.File("a.npy"));
      ASSERT_TRUE(array.ok()) << array.status();
      EXPECT_EQ(array->dtype, dtype);
      EXPECT_EQ(array->shape, shape);
      EXPECT_EQ(array->bytes, bytes);
    }
  }
}

// Headers as NumPy writes them: 1.24, and Python 2's.
TEST(NpyTest, ReadsAllVersions) {
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }   \n";
  for (char version : {1, 2, 3}) {
    const auto array = Parse(File(header, "12345678", version));
    ASSERT_TRUE(array.ok()) << array.status();
    EXPECT_EQ(array->dtype, DType::kFloat32);
    EXPECT_THAT(array->shape, ElementsAre(2, 1));
  }
  const auto old = Parse(File("{'descr':'|u1','fortran_order':False,'shape':(3L,)}", "123"));
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_THAT(old->shape, ElementsAre(3));
  const auto scalar = Parse(File("{'shape': (), 'fortran_order': True, 'descr': '<i2'}", "12"));
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  EXPECT_THAT(scalar->shape, IsEmpty());
}

TEST(NpyTest, RefusesWhatItCannotGive) {
  EXPECT_THAT(Error("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "1234"),
              AllOf(HasSubstr("x.npy"), HasSubstr("big-endian")));
  EXPECT_THAT(Error("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "12345678"),
              HasSubstr("'<c8'"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }", "1234"),
              HasSubstr("Fortran"));
  EXPECT_THAT(Error("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "1234"),
              HasSubstr("'descr'"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "1234"),
              HasSubstr("holds 4 bytes, but array: float32[2] takes 8"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "12345"),
              HasSubstr("holds 5 bytes"));
  EXPECT_THAT(Error("{'descr': '<f4', 'shape': (1,), }", "1234"), HasSubstr("fortran_order"));
  EXPECT_THAT(Error("{'descr': '<f4', 'descr': '<f4', 'shape': (1,), }"), HasSubstr("twice"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}"),
              HasSubstr("'x'"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
              HasSubstr("'shape'"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': False, 'shape': (3), }"),
              HasSubstr("'shape'"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999,), }"),
              HasSubstr("'shape'"));
  EXPECT_THAT(
      Error("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"),
      HasSubstr("too many"));
  EXPECT_THAT(Error("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }"),
              HasSubstr("8 dimensions"));
  EXPECT_THAT(Error("{} x"), HasSubstr("after the header"));
  EXPECT_THAT(Error(""), HasSubstr("no dictionary"));
  EXPECT_FALSE(Parse("").ok());
  EXPECT_THAT(std::string(Parse(File("{}", "", 4)).status().message()), HasSubstr("version 4"));
  EXPECT_EQ(LoadNpy("/nowhere.npy").status().code(), absl::StatusCode::kNotFound);
}

TEST(NpyTest, EveryCutIsAnErrorAndEveryChangedByteIsSurvived) {
  const std::string valid =
      File("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }", "12345678");
  ASSERT_TRUE(Parse(valid).ok());
  for (size_t size = 0; size < valid.size(); ++size) {
    EXPECT_FALSE(Parse(valid.substr(0, size)).ok()) << size;
  }
  for (size_t i = 0; i < valid.size(); ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = valid;
      changed[i] = static_cast<char>(value);
      const auto array = Parse(changed);
      if (array.ok()) {
        EXPECT_EQ(array->bytes.size(), TensorBytes(array->dtype, array->shape));
      }
    }
  }
}

}  // namespace
}  // namespace baton::loader

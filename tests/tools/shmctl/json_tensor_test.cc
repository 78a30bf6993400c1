#include "tools/shmctl/json_tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace baton::shmctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TensorSpec Spec(DType dtype) { return {"x", dtype, {kDynamicDim}}; }

template <typename T>
std::vector<T> Elements(const HostTensor& tensor) {
  std::vector<T> elements(tensor.bytes.size() / sizeof(T));
  if (!elements.empty()) std::memcpy(elements.data(), tensor.bytes.data(), tensor.bytes.size());
  return elements;
}

std::string ErrorOf(const std::string& text, DType dtype) {
  const auto tensor = ParseJsonTensor(text, Spec(dtype));
  EXPECT_TRUE(absl::IsInvalidArgument(tensor.status())) << text << ": " << tensor.status();
  return std::string(tensor.status().message());
}

TEST(JsonTensorTest, NestingIsTheShape) {
  const auto matrix = ParseJsonTensor("[[1, 2.5, -3], [4, 5e2, 6]]", Spec(DType::kFloat32));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->spec, (TensorSpec{"x", DType::kFloat32, {2, 3}}));
  EXPECT_THAT(Elements<float>(*matrix), ElementsAre(1, 2.5, -3, 4, 500, 6));

  const auto scalar = ParseJsonTensor("7", Spec(DType::kInt8));
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  EXPECT_TRUE(scalar->spec.shape.empty());
  EXPECT_THAT(Elements<int8_t>(*scalar), ElementsAre(7));

  const auto none = ParseJsonTensor("[[], []]", Spec(DType::kUInt8));
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_THAT(none->spec.shape, ElementsAre(2, 0));
}

TEST(JsonTensorTest, FlagsAreTrueAndFalse) {
  const auto flags = ParseJsonTensor("[true, false]", Spec(DType::kBool));
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_THAT(Elements<uint8_t>(*flags), ElementsAre(1, 0));
  EXPECT_THAT(ErrorOf("[1]", DType::kBool), HasSubstr("element 0 is 1, which is no bool"));
  EXPECT_THAT(ErrorOf("[true]", DType::kUInt8), HasSubstr("true"));
}

// A double skips integers above 2^53: those go through strings, exactly.
TEST(JsonTensorTest, LargeIntegersAreStrings) {
  const auto large = ParseJsonTensor(R"(["9223372036854775807", "-9223372036854775808", 12])",
                                     Spec(DType::kInt64));
  ASSERT_TRUE(large.ok()) << large.status();
  EXPECT_THAT(Elements<int64_t>(*large), ElementsAre(std::numeric_limits<int64_t>::max(),
                                                     std::numeric_limits<int64_t>::min(), 12));
  const auto natural = ParseJsonTensor(R"(["18446744073709551615"])", Spec(DType::kUInt64));
  ASSERT_TRUE(natural.ok()) << natural.status();
  EXPECT_THAT(Elements<uint64_t>(*natural), ElementsAre(std::numeric_limits<uint64_t>::max()));
  ErrorOf("[9223372036854775807]", DType::kInt64);
  ErrorOf(R"(["9223372036854775808"])", DType::kInt64);
  ErrorOf(R"(["12x"])", DType::kInt64);
  ErrorOf("[-1]", DType::kUInt64);
}

TEST(JsonTensorTest, ValuesThatTheDtypeCannotHold) {
  EXPECT_THAT(ErrorOf("[1, 256]", DType::kUInt8), HasSubstr("element 1 is 256"));
  ErrorOf("[-1]", DType::kUInt8);
  ErrorOf("[-129]", DType::kInt8);
  ErrorOf("[65536]", DType::kUInt16);
  ErrorOf("[32768]", DType::kInt16);
  ErrorOf("[4294967296]", DType::kUInt32);
  ErrorOf("[2147483648]", DType::kInt32);
  ErrorOf("[1.5]", DType::kInt32);
  ErrorOf("[1e39]", DType::kFloat32);
  ErrorOf("[null]", DType::kFloat32);
  ErrorOf("[\"one\"]", DType::kFloat32);
  EXPECT_THAT(ErrorOf("[1]", DType::kFloat16), HasSubstr(".npy"));
}

TEST(JsonTensorTest, FloatsThatJsonHasNoNumberFor) {
  const auto tensor = ParseJsonTensor(R"(["NaN", "Infinity", "-Infinity"])", Spec(DType::kFloat64));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  const std::vector<double> elements = Elements<double>(*tensor);
  EXPECT_TRUE(std::isnan(elements[0]));
  EXPECT_EQ(elements[1], std::numeric_limits<double>::infinity());
  EXPECT_EQ(elements[2], -std::numeric_limits<double>::infinity());
}

TEST(JsonTensorTest, WhatIsNoTensor) {
  EXPECT_THAT(ErrorOf("[[1, 2], [3]]", DType::kInt32), HasSubstr("not rectangular"));
  EXPECT_THAT(ErrorOf("[[1], 2]", DType::kInt32), HasSubstr("not rectangular"));
  ErrorOf("[1, [2]]", DType::kInt32);
  ErrorOf("{\"a\": 1}", DType::kInt32);
  ErrorOf("", DType::kInt32);
  ErrorOf("[1, 2", DType::kInt32);
  ErrorOf("[1] trailing", DType::kInt32);
  EXPECT_THAT(ErrorOf("[[[[[[[[[1]]]]]]]]]", DType::kInt32), HasSubstr("nested deeper than 8"));
  ErrorOf(std::string(100000, '['), DType::kInt32);  // no stack is that deep
}

}  // namespace
}  // namespace baton::shmctl

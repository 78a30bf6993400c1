#include "tools/shmctl/tensor_values.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "capnp/message.h"

namespace baton::shmctl {
namespace {

template <typename T>
TensorView View(const std::vector<T>& values, std::span<const int64_t> shape,
                DType dtype = DTypeOf<T>()) {
  return {.name = "x", .dtype = dtype, .shape = shape, .bytes = std::as_bytes(std::span(values))};
}

TEST(TensorValuesTest, TextIsNestedAsTheShapeIs) {
  const std::vector<float> values = {1, 0.1f, -3, 4};
  const std::vector<int64_t> matrix = {2, 2};
  EXPECT_EQ(FormatTensor(View(values, matrix), 64), "x: float32[2, 2] = [[1, 0.1], [-3, 4]]");
  const std::vector<uint8_t> byte = {200};
  EXPECT_EQ(FormatTensor(View(byte, {}), 64), "x: uint8[] = 200");
  const std::vector<int64_t> three = {3};
  const std::vector<int8_t> flags = {1, 0, 2};  // a model can write a bool of 2
  EXPECT_EQ(FormatTensor(View(flags, three, DType::kBool), 64), "x: bool[3] = [true, false, true]");
}

TEST(TensorValuesTest, ManyValuesAreOnlyCounted) {
  const std::vector<int32_t> values(65);
  const std::vector<int64_t> shape = {65};
  const std::string text = FormatTensor(View(values, shape), 64);
  EXPECT_EQ(text.find('='), std::string::npos) << text;
  EXPECT_NE(text.find("65 values"), std::string::npos) << text;
}

// A worker chooses the shape: an empty tensor with a huge dimension must not
// cost a loop over it.
TEST(TensorValuesTest, EmptyTensorsOfAnyShape) {
  const std::vector<float> none;
  const std::vector<int64_t> shape = {std::numeric_limits<int64_t>::max(), 0};
  EXPECT_EQ(FormatTensor(View(none, shape), 64), "x: float32[9223372036854775807, 0] = []");
}

TEST(TensorValuesTest, HalfPrecision) {
  EXPECT_EQ(Float16ToFloat(0x3c00), 1.0f);
  EXPECT_EQ(Float16ToFloat(0xc000), -2.0f);
  EXPECT_EQ(Float16ToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(Float16ToFloat(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(Float16ToFloat(0x0400), std::ldexp(1.0f, -14));
  EXPECT_EQ(Float16ToFloat(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(Float16ToFloat(0x7e00)));
  EXPECT_TRUE(std::signbit(Float16ToFloat(0x8000)));
  EXPECT_EQ(BFloat16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(BFloat16ToFloat(0xc040), -3.0f);
  const std::vector<uint16_t> half = {0x3800};
  const std::vector<int64_t> one = {1};
  EXPECT_EQ(FormatTensor(View(half, one, DType::kFloat16), 64), "x: float16[1] = [0.5]");
}

TEST(TensorValuesTest, ValuesKeepTheirPrecision) {
  capnp::MallocMessageBuilder message;
  auto values = message.initRoot<ipc::schema::Values>();
  const std::vector<int64_t> shape = {2};
  WriteValues(View(std::vector<int64_t>{std::numeric_limits<int64_t>::min(), 1}, shape), values);
  ASSERT_TRUE(values.isIntegers());
  EXPECT_EQ(values.getIntegers()[0], std::numeric_limits<int64_t>::min());
  WriteValues(View(std::vector<uint64_t>{std::numeric_limits<uint64_t>::max(), 1}, shape), values);
  ASSERT_TRUE(values.isNaturals());
  EXPECT_EQ(values.getNaturals()[0], std::numeric_limits<uint64_t>::max());
  WriteValues(View(std::vector<int16_t>{-7, 1}, shape), values);
  ASSERT_TRUE(values.isNumbers());
  EXPECT_EQ(values.getNumbers()[0], -7);
}

}  // namespace
}  // namespace baton::shmctl

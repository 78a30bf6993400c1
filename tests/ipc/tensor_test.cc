#include "baton/tensor.h"

#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace baton {
namespace {

TEST(TensorTest, NamesAndDtypesAreOneToOne) {
  std::set<std::string> names;
  for (uint8_t number = 1; number <= kMaxDType; ++number) {
    const auto dtype = static_cast<DType>(number);
    names.emplace(DTypeName(dtype));
    EXPECT_EQ(DTypeFromName(DTypeName(dtype)), dtype);
    EXPECT_GT(DTypeBytes(dtype), 0u) << DTypeName(dtype);
  }
  EXPECT_EQ(names.size(), kMaxDType);
  EXPECT_EQ(DTypeName(DType::kFloat32), "float32");
  EXPECT_EQ(DTypeName(DTypeOf<int64_t>()), "int64");
}

// R6: a number that a peer wrote is not used as an index before it is checked.
TEST(TensorTest, NumbersThatAreNoDtypeAreInvalid) {
  for (int number = kMaxDType + 1; number < 255; ++number) {
    EXPECT_EQ(DTypeName(static_cast<DType>(number)), "invalid");
    EXPECT_EQ(DTypeBytes(static_cast<DType>(number)), 0u);
  }
  EXPECT_EQ(DTypeName(DType::kAny), "any") << "of signatures only";
  EXPECT_EQ(DTypeBytes(DType::kAny), 0u);
  EXPECT_EQ(DTypeFromName("any"), DType::kInvalid);
  EXPECT_EQ(DTypeFromName("invalid"), DType::kInvalid);
  EXPECT_EQ(DTypeFromName(""), DType::kInvalid);
  EXPECT_EQ(DTypeFromName("float"), DType::kInvalid);
}

TEST(TensorTest, SpecPrintsDynamicDimensionsAsQuestionMarks) {
  EXPECT_EQ(ToString(TensorSpec{"image", DType::kFloat32, {kDynamicDim, 64}}),
            "image: float32[?, 64]");
  EXPECT_EQ(ToString(TensorSpec{"n", DType::kInt64, {}}), "n: int64[]");
}

TEST(TensorTest, BytesRefuseOverflowAndNegativeDimensions) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(TensorBytes(DType::kFloat32, std::vector<int64_t>{3, 4}), 48u);
  EXPECT_EQ(TensorBytes(DType::kFloat32, std::vector<int64_t>{}), 4u);
  EXPECT_EQ(TensorBytes(DType::kFloat32, std::vector<int64_t>{0, 7}), 0u);
  EXPECT_FALSE(TensorBytes(DType::kFloat32, std::vector<int64_t>{kHuge}).has_value());
  EXPECT_FALSE(TensorBytes(DType::kUInt8, std::vector<int64_t>{kHuge, kHuge}).has_value());
  EXPECT_FALSE(TensorBytes(DType::kUInt8, std::vector<int64_t>{-1}).has_value());
  EXPECT_FALSE(TensorBytes(DType::kInvalid, std::vector<int64_t>{1}).has_value());
}

TEST(TensorTest, ViewGivesElementsOnlyAsTheirOwnType) {
  const std::vector<float> values = {1, 2, 3};
  const std::vector<int64_t> shape = {3};
  const TensorView view{"x", DType::kFloat32, shape, std::as_bytes(std::span(values))};
  ASSERT_EQ(view.As<float>().size(), 3u);
  EXPECT_EQ(view.As<float>()[2], 3.0f);
  EXPECT_TRUE(view.As<int32_t>().empty());
}

}  // namespace
}  // namespace baton

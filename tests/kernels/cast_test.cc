#include "kernels/cast.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace baton::kernels {
namespace {

// What a 16-bit pattern stands for, from the definition of its format.
struct Format {
  FloatType type;
  int fraction_bits;
  int bias;

  uint16_t Infinity() const {
    return static_cast<uint16_t>(0x7fff >> fraction_bits << fraction_bits);
  }
  bool IsNan(uint16_t bits) const { return (bits & 0x7fff) > Infinity(); }
  // Exact; the pattern of infinity counts as the power of two after the largest
  // number, which is what rounding compares with.
  double Value(uint16_t bits) const {
    const int exponent = (bits & 0x7fff) >> fraction_bits;
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                                           : std::ldexp((1 << fraction_bits) + fraction,
                                                        exponent - bias - fraction_bits);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
  }
  // The nearest pattern, by search among all; ties to the even one.
  uint16_t Nearest(double value) const {
    const double magnitude = std::fabs(value);
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    uint16_t low = 0;
    uint16_t high = Infinity();
    if (magnitude >= Value(high)) return sign | high;
    while (high - low > 1) {
      const auto middle = static_cast<uint16_t>((low + high) / 2);
      (Value(middle) <= magnitude ? low : high) = middle;
    }
    const double below = magnitude - Value(low);
    const double above = Value(high) - magnitude;
    const bool up = above < below || (above == below && low % 2 == 1);
    return sign | (up ? high : low);
  }
};

constexpr Format kHalf = {FloatType::kFloat16, 10, 15};
constexpr Format kBfloat = {FloatType::kBfloat16, 7, 127};

template <class To, class From>
std::vector<To> CastAll(const std::vector<From>& input, FloatType from, FloatType to) {
  std::vector<To> output(input.size());
  Cast({.input = input.data(),
        .output = output.data(),
        .count = input.size(),
        .input_type = from,
        .output_type = to});
  return output;
}

std::vector<uint16_t> AllPatterns() {
  std::vector<uint16_t> patterns(65536);
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  return patterns;
}

class CastFormat : public ::testing::TestWithParam<Format> {};

TEST_P(CastFormat, EveryPatternWidensExactly) {
  const Format format = GetParam();
  const auto patterns = AllPatterns();
  const auto floats = CastAll<float>(patterns, format.type, FloatType::kFloat32);
  for (const uint16_t bits : patterns) {
    const float value = floats[bits];
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
    if (format.IsNan(bits)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
    } else if ((bits & 0x7fff) == format.Infinity()) {
      ASSERT_TRUE(std::isinf(value)) << bits;
    } else {
      ASSERT_EQ(value, format.Value(bits)) << bits;
    }
  }
}

TEST_P(CastFormat, EveryPatternComesBack) {
  const Format format = GetParam();
  const auto patterns = AllPatterns();
  const auto back = CastAll<uint16_t>(CastAll<float>(patterns, format.type, FloatType::kFloat32),
                                      FloatType::kFloat32, format.type);
  for (const uint16_t bits : patterns) {
    if (format.IsNan(bits)) {
      ASSERT_TRUE(format.IsNan(back[bits])) << bits;
      ASSERT_EQ(back[bits] & 0x8000, bits & 0x8000) << bits;
    } else {
      ASSERT_EQ(back[bits], bits);
    }
  }
}

// Between any two neighbours lies one midpoint: it, and the floats around it and
// around the neighbours, are all that rounding can get wrong.
TEST_P(CastFormat, RoundsToNearestEvenAroundEveryMidpoint) {
  const Format format = GetParam();
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values;
  for (uint16_t bits = 0; bits < format.Infinity(); ++bits) {
    const double low = format.Value(bits);
    const double middle = (low + format.Value(static_cast<uint16_t>(bits + 1))) / 2;
    for (const double exact : {low, middle}) {
      const auto value = static_cast<float>(exact);
      ASSERT_EQ(value, exact);
      for (const float near :
           {value, std::nextafter(value, -infinity), std::nextafter(value, infinity)}) {
        values.push_back(near);
        values.push_back(-near);
      }
    }
  }
  const auto rounded = CastAll<uint16_t>(values, FloatType::kFloat32, format.type);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(rounded[i], format.Nearest(values[i])) << values[i];
  }
}

TEST_P(CastFormat, EdgesOfFloat32) {
  const Format format = GetParam();
  using Limits = std::numeric_limits<float>;
  const std::vector<float> values = {0.0f,
                                     -0.0f,
                                     Limits::max(),
                                     Limits::min(),
                                     -Limits::min(),
                                     Limits::denorm_min(),
                                     Limits::lowest(),
                                     1.0f,
                                     -1.0f,
                                     65504.0f,
                                     65519.996f,
                                     65520.0f,
                                     5.9604645e-8f,
                                     2.9802322e-8f,
                                     2.9802326e-8f};
  const auto rounded = CastAll<uint16_t>(values, FloatType::kFloat32, format.type);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(rounded[i], format.Nearest(values[i])) << values[i];
  }
  const auto infinities =
      CastAll<uint16_t>(std::vector<float>{Limits::infinity(), -Limits::infinity()},
                        FloatType::kFloat32, format.type);
  EXPECT_EQ(infinities[0], format.Infinity());
  EXPECT_EQ(infinities[1], format.Infinity() | 0x8000);
}

// A payload in the lowest bits only must not become infinity.
TEST_P(CastFormat, NanOfFloat32StaysNan) {
  const Format format = GetParam();
  for (const uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu,
                              0x7f80ffffu, 0xff801fffu}) {
    const auto rounded =
        CastAll<uint16_t>(std::vector<uint32_t>{bits}, FloatType::kFloat32, format.type);
    EXPECT_TRUE(format.IsNan(rounded[0])) << std::hex << bits;
    EXPECT_EQ(rounded[0] >> 15, bits >> 31) << std::hex << bits;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, CastFormat, ::testing::Values(kHalf, kBfloat),
                         [](const auto& info) {
                           return info.param.type == FloatType::kFloat16 ? "float16" : "bfloat16";
                         });

TEST(CastTest, BetweenThe16BitTypesRoundsOnce) {
  for (const auto& [from, to] : {std::pair(kHalf, kBfloat), std::pair(kBfloat, kHalf)}) {
    const auto cast = CastAll<uint16_t>(AllPatterns(), from.type, to.type);
    for (const uint16_t bits : AllPatterns()) {
      if (from.IsNan(bits)) {
        ASSERT_TRUE(to.IsNan(cast[bits])) << bits;
      } else if ((bits & 0x7fff) == from.Infinity()) {
        ASSERT_EQ(cast[bits], to.Infinity() | (bits & 0x8000)) << bits;
      } else {
        ASSERT_EQ(cast[bits], to.Nearest(from.Value(bits))) << bits;
      }
    }
  }
}

TEST(CastTest, EqualTypesKeepEveryBit) {
  const auto patterns = AllPatterns();
  for (const FloatType type : {FloatType::kFloat16, FloatType::kBfloat16}) {
    EXPECT_EQ(CastAll<uint16_t>(patterns, type, type), patterns);
  }
  const std::vector<uint32_t> words = {0, 1, 0x7f800001u, 0xffffffffu, 0x3f800000u};
  EXPECT_EQ(CastAll<uint32_t>(words, FloatType::kFloat32, FloatType::kFloat32), words);
}

TEST(CastTest, NothingIsTouchedBeyondTheCount) {
  const std::vector<float> input = {1.0f, 2.0f};
  std::vector<uint16_t> output = {7, 7, 7};
  Cast({.input = input.data(),
        .output = output.data(),
        .count = 1,
        .input_type = FloatType::kFloat32,
        .output_type = FloatType::kFloat16});
  EXPECT_EQ(output, (std::vector<uint16_t>{0x3c00, 7, 7}));
}

}  // namespace
}  // namespace baton::kernels

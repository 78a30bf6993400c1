#include "kernels/dense.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <span>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

namespace baton::kernels {
namespace {

std::vector<float> Random(size_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> values(-1.0f, 1.0f);
  std::vector<float> result(count);
  for (float& value : result) value = values(engine);
  return result;
}

// Rows, inputs, outputs: below, at and above the tile and lane sizes.
class MatMulBiasTest : public ::testing::TestWithParam<std::tuple<size_t, size_t, size_t>> {};

TEST_P(MatMulBiasTest, EqualsTheDefinition) {
  const auto [rows, inputs, outputs] = GetParam();
  const auto input = Random(rows * inputs, 1);
  const auto weights = Random(outputs * inputs, 2);
  auto bias = Random(outputs, 3);
  bias.resize(PaddedColumns(outputs));
  std::vector<float> packed(inputs * PaddedColumns(outputs));
  PackWeights(weights, outputs, inputs, packed);
  constexpr float kGuard = 12345.0f;
  std::vector<float> output(rows * outputs + 1, kGuard);

  MatMulBias({.input = input.data(),
              .weights = packed.data(),
              .bias = bias.data(),
              .output = output.data(),
              .rows = rows,
              .inputs = inputs,
              .outputs = outputs});

  for (size_t row = 0; row < rows; ++row) {
    for (size_t out = 0; out < outputs; ++out) {
      double sum = bias[out];
      for (size_t in = 0; in < inputs; ++in) {
        sum += double{input[row * inputs + in]} * double{weights[out * inputs + in]};
      }
      ASSERT_NEAR(output[row * outputs + out], sum, 1e-4) << row << "," << out;
    }
  }
  EXPECT_EQ(output.back(), kGuard) << "wrote past the end";
}

// A row is the same bits in whatever company: who puts rows of several requests together changes
// nobody's result.
TEST_P(MatMulBiasTest, ARowDoesNotDependOnTheOthers) {
  const auto [rows, inputs, outputs] = GetParam();
  const auto input = Random(rows * inputs, 1);
  const auto bias = Random(PaddedColumns(outputs), 3);
  std::vector<float> packed(inputs * PaddedColumns(outputs));
  PackWeights(Random(outputs * inputs, 2), outputs, inputs, packed);
  std::vector<float> together(rows * outputs);
  std::vector<float> alone(rows * outputs);
  MatMulBiasArgs args{.input = input.data(),
                      .weights = packed.data(),
                      .bias = bias.data(),
                      .output = together.data(),
                      .rows = rows,
                      .inputs = inputs,
                      .outputs = outputs};
  MatMulBias(args);
  args.rows = 1;
  for (size_t row = 0; row < rows; ++row) {
    args.input = input.data() + row * inputs;
    args.output = alone.data() + row * outputs;
    MatMulBias(args);
  }
  EXPECT_EQ(together, alone);
}

INSTANTIATE_TEST_SUITE_P(Sizes, MatMulBiasTest,
                         ::testing::Combine(::testing::Values(0, 1, 3, 4, 5, 8, 9, 12, 13, 33),
                                            ::testing::Values(1, 7, 64),
                                            ::testing::Values(1, 10, 15, 16, 17, 42, 64)));

#if defined(__x86_64__) && defined(__OPTIMIZE__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// The version for CPUs with fused multiply-add rounds once, the one for every x86-64 twice.
TEST(MatMulBiasVersionTest, IsTheWidestThatThisCpuHas) {
  const std::vector<float> input = {1 + 0x1p-12f};
  std::vector<float> weights(kDenseLane), bias(kDenseLane);
  weights[0] = input[0];
  bias[0] = -(1 + 0x1p-11f);
  float output = 0;
  MatMulBias({.input = input.data(),
              .weights = weights.data(),
              .bias = bias.data(),
              .output = &output,
              .rows = 1,
              .inputs = 1,
              .outputs = 1});
  EXPECT_EQ(output, __builtin_cpu_supports("x86-64-v3") ? 0x1p-24f : 0.0f);
}
#endif

TEST(PackWeightsTest, TransposesAndPadsWithZero) {
  const std::vector<float> weights = {1, 2, 3, 4, 5, 6};  // [2 outputs, 3 inputs]
  std::vector<float> packed(3 * kDenseLane, 9.0f);
  PackWeights(weights, 2, 3, packed);
  for (size_t in = 0; in < 3; ++in) {
    EXPECT_EQ(packed[in * kDenseLane], weights[in]);
    EXPECT_EQ(packed[in * kDenseLane + 1], weights[3 + in]);
    for (size_t lane = 2; lane < kDenseLane; ++lane) EXPECT_EQ(packed[in * kDenseLane + lane], 0);
  }
}

// Floats that end where a page begins that may not be touched.
class GuardedFloats {
 public:
  explicit GuardedFloats(size_t count, float value = 1.0f) : count_(count) {
    const size_t pages = (count * sizeof(float) + kPage - 1) / kPage;
    bytes_ = (pages + 2) * kPage;
    memory_ = static_cast<std::byte*>(
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(static_cast<void*>(memory_), MAP_FAILED);
    EXPECT_EQ(::mprotect(memory_, kPage, PROT_NONE), 0);
    EXPECT_EQ(::mprotect(memory_ + bytes_ - kPage, kPage, PROT_NONE), 0);
    std::fill_n(data(), count, value);
  }
  ~GuardedFloats() { ::munmap(memory_, bytes_); }
  GuardedFloats(const GuardedFloats&) = delete;
  GuardedFloats& operator=(const GuardedFloats&) = delete;
  float* data() const { return reinterpret_cast<float*>(memory_ + bytes_ - kPage) - count_; }
  std::span<float> span() const { return {data(), count_}; }

 private:
  static constexpr size_t kPage = 4096;
  const size_t count_;
  size_t bytes_ = 0;
  std::byte* memory_ = nullptr;
};

// The wider versions too, which no sanitizer sees.
TEST(DenseTest, NothingBehindTheArraysIsTouched) {
  for (const size_t outputs : {1, 10, 16, 31, 32, 33, 42, 47, 48, 64}) {
    for (const size_t rows : {1, 4, 5, 8, 9, 13}) {
      constexpr size_t kInputs = 5;
      const GuardedFloats input(rows * kInputs);
      const GuardedFloats weights(kInputs * PaddedColumns(outputs));
      const GuardedFloats bias(PaddedColumns(outputs));
      const GuardedFloats output(rows * outputs, 0.0f);
      MatMulBias({.input = input.data(),
                  .weights = weights.data(),
                  .bias = bias.data(),
                  .output = output.data(),
                  .rows = rows,
                  .inputs = kInputs,
                  .outputs = outputs});
      for (const float value : output.span()) ASSERT_EQ(value, kInputs + 1.0f) << outputs;
      Relu(output.span());
      SoftmaxRows(output.span(), outputs);
      for (const float value : output.span()) {
        ASSERT_NEAR(value, 1.0 / static_cast<double>(outputs), 1e-6) << outputs << "," << rows;
      }
    }
  }
}

TEST(ReluTest, KeepsThePositiveAndNan) {
  std::vector<float> values = {-1.0f, 0.0f, 2.5f, std::nanf(""),
                               -std::numeric_limits<float>::infinity()};
  Relu(values);
  EXPECT_EQ(values[0], 0.0f);
  EXPECT_EQ(values[1], 0.0f);
  EXPECT_EQ(values[2], 2.5f);
  EXPECT_TRUE(std::isnan(values[3]));
  EXPECT_EQ(values[4], 0.0f);
}

TEST(SoftmaxTest, RowsSumToOneAndNothingOverflows) {
  std::vector<float> values = {0, 1, 2, 1000, 1000, 1000, -1000, 0, 1000};
  SoftmaxRows(values, 3);
  const double sum = 1 + std::exp(1.0) + std::exp(2.0);
  EXPECT_NEAR(values[0], 1 / sum, 1e-6);
  EXPECT_NEAR(values[1], std::exp(1.0) / sum, 1e-6);
  EXPECT_NEAR(values[2], std::exp(2.0) / sum, 1e-6);
  for (size_t i = 3; i < 6; ++i) EXPECT_NEAR(values[i], 1.0 / 3, 1e-6);
  EXPECT_NEAR(values[8], 1.0, 1e-6);
  EXPECT_EQ(values[6], 0.0f);
}

constexpr size_t kSoftmaxColumns[] = {1, 3, 10, 15, 16, 17, 40};

// Eighths: a row's differences are exact in float.
std::vector<float> Logits(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i * 37 % 257) / 8.0f - 16.0f;
  return values;
}

TEST(SoftmaxTest, IsWhatDoublesGive) {
  for (const size_t columns : kSoftmaxColumns) {
    std::vector<float> values = Logits(9 * columns);
    const std::vector<float> logits = values;
    SoftmaxRows(values, columns);
    for (size_t start = 0; start < values.size(); start += columns) {
      const auto row = std::span(logits).subspan(start, columns);
      const double largest = *std::max_element(row.begin(), row.end());
      double sum = 0;
      for (const double logit : row) sum += std::exp(logit - largest);
      for (size_t i = 0; i < columns; ++i) {
        const double expected = std::exp(row[i] - largest) / sum;
        EXPECT_NEAR(values[start + i], expected,
                    expected * static_cast<double>(columns + 16) * 0x1p-24)
            << columns << " columns, row " << start / columns << ", " << i;
      }
    }
  }
}

// An answer is the same bits whether its request was in a batch or not, and wherever it was.
TEST(SoftmaxTest, ARowIsTheSameBitsAloneAndAmongOthers) {
  for (const size_t columns : kSoftmaxColumns) {
    std::vector<float> together = Logits(9 * columns);
    std::vector<float> alone = together;
    SoftmaxRows(together, columns);
    for (size_t start = 0; start < alone.size(); start += columns) {
      SoftmaxRows(std::span(alone).subspan(start, columns), columns);
    }
    for (size_t i = 0; i < alone.size(); ++i) {
      ASSERT_EQ(together[i], alone[i]) << columns << " columns, " << i;
    }
  }
}

TEST(SoftmaxTest, NanFillsItsRowAndNoOther) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = {1, 2, 3, 1, std::nanf(""), 3, 1, -infinity, 3, 1, infinity, 3};
  SoftmaxRows(values, 3);
  for (const size_t i : {3, 4, 5, 10}) EXPECT_TRUE(std::isnan(values[i])) << i;
  EXPECT_NEAR(values[0] + values[1] + values[2], 1.0, 1e-6);
  EXPECT_EQ(values[7], 0.0f);
  EXPECT_NEAR(values[6] + values[8], 1.0, 1e-6);
}

}  // namespace
}  // namespace baton::kernels

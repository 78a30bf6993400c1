// OpenBLAS against the reference: the same layers within the tolerance of kernels/DESIGN.md, and no
// threads of its own.
#include "kernels/openblas/open_blas.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/kernels/dense_layer.h"

namespace baton::kernels {
namespace {

using ::testing::HasSubstr;

TEST(OpenBlasTest, SaysWhatIsMissingAndWhatHappensInstead) {
  const auto absent = OpenBlas::LoadFrom("/nonexistent/libbaton_openblas.so");
  ASSERT_TRUE(absl::IsNotFound(absent.status())) << absent.status();
  EXPECT_THAT(std::string(absent.status().message()), HasSubstr("/nonexistent"));
  EXPECT_THAT(std::string(absent.status().message()), HasSubstr("Baton's own kernel"));
}

TEST(OpenBlasTest, RefusesALibraryThatIsAnother) {
  const auto other = OpenBlas::LoadFrom("libm.so.6");
  ASSERT_TRUE(absl::IsFailedPrecondition(other.status())) << other.status();
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("another version"));
}

TEST(OpenBlasTest, SmallLayersAndFewRowsStayWithTheReference) {
  for (const size_t rows : {1, 32, 10'000}) {
    EXPECT_FALSE(OpenBlas::Pays(rows, 64, 64)) << "the digits model, " << rows;
    EXPECT_FALSE(OpenBlas::Pays(rows, 64, 10)) << "the digits model, " << rows;
    EXPECT_FALSE(OpenBlas::Pays(rows, 4096, 10)) << rows;
  }
  EXPECT_FALSE(OpenBlas::Pays(0, 1024, 1024));
  EXPECT_FALSE(OpenBlas::Pays(15, 1024, 1024));
  EXPECT_TRUE(OpenBlas::Pays(16, 1024, 1024));
  EXPECT_TRUE(OpenBlas::Pays(16, 128, 128));
  EXPECT_FALSE(OpenBlas::Pays(16, 127, 128));
  EXPECT_TRUE(OpenBlas::Pays(32, 512, 32));
  EXPECT_FALSE(OpenBlas::Pays(32, 1024, 31));
}

TEST(OpenBlasTest, SizesThatOpenBlasCannotCountStayWithTheReference) {
  constexpr size_t kTooMany = size_t{1} << 31;
  EXPECT_FALSE(OpenBlas::Pays(kTooMany, 1024, 1024));
  EXPECT_FALSE(OpenBlas::Pays(16, kTooMany, 1024));
  EXPECT_FALSE(OpenBlas::Pays(16, 1024, kTooMany));
  EXPECT_FALSE(OpenBlas::Pays(16, 1024, kTooMany - 1)) << "padded it would be too many";
}

#ifdef BATON_OPENBLAS_FILE
using Layer = cuda::Layer;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kGuard = 12345.0f;

std::vector<float> Compute(const Layer& layer) {
  static const auto open_blas = OpenBlas::LoadFrom(BATON_OPENBLAS_FILE);
  EXPECT_TRUE(open_blas.ok()) << open_blas.status();
  const auto packed = layer.PackedWeights();
  // What lies there before is of no account.
  std::vector<float> output(layer.rows * layer.outputs, std::nanf(""));
  output.push_back(kGuard);
  (*open_blas)
      ->MatMulBias({.input = layer.input.data(),
                    .weights = packed.data(),
                    .bias = layer.bias.data(),
                    .output = output.data(),
                    .rows = layer.rows,
                    .inputs = layer.inputs,
                    .outputs = layer.outputs});
  EXPECT_EQ(output.back(), kGuard) << "wrote past the end";
  output.pop_back();
  return output;
}

// Rows, inputs, outputs: below, at and above OpenBLAS's tiles, and where it pays.
class OpenBlasLayerTest : public ::testing::TestWithParam<std::tuple<size_t, size_t, size_t>> {
 protected:
  Layer layer_{std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam())};
};

TEST_P(OpenBlasLayerTest, EqualsTheReferenceWithinRounding) {
  const auto expected = layer_.Reference(cuda::Activation::kNone);
  const auto actual = Compute(layer_);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], layer_.Tolerance(i / layer_.outputs, i % layer_.outputs))
        << i;
  }
}

// What is loaded beyond an edge must not meet an infinity of the other factor.
TEST_P(OpenBlasLayerTest, InfinitiesStayInTheirRowAndColumn) {
  layer_.input.back() = kInfinity;    // the last row's last input
  layer_.weights.back() = kInfinity;  // the last column's
  layer_.bias[0] = std::nanf("");
  const auto expected = layer_.Reference(cuda::Activation::kNone);
  const auto actual = Compute(layer_);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(std::isnan(actual[i]), std::isnan(expected[i])) << i;
    ASSERT_EQ(std::isinf(actual[i]), std::isinf(expected[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, OpenBlasLayerTest,
                         ::testing::Combine(::testing::Values(1, 5, 16, 33),
                                            ::testing::Values(1, 37, 128, 515),
                                            ::testing::Values(1, 10, 32, 83, 256)));

size_t Threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

// Run with variables that ask for four.
TEST(OpenBlasThreadsTest, ThereAreNoneOfItsOwn) {
  ASSERT_STREQ(std::getenv("OPENBLAS_NUM_THREADS"), "4") << "run me with ctest";
  const size_t before = Threads();
  const Layer layer(256, 1024, 512);
  Compute(layer);
  EXPECT_EQ(Threads(), before);
}
#endif

}  // namespace
}  // namespace baton::kernels

#include "tools/shmctl/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace baton::shmctl {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(LatencyHistogramTest, EmptyIsAllZero) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.min_ns(), 0u);
  EXPECT_EQ(histogram.max_ns(), 0u);
  EXPECT_EQ(histogram.mean_ns(), 0);
  EXPECT_EQ(histogram.PercentileNs(0.5), 0u);
}

// Buckets tile the whole range: each starts where the one before ended.
TEST(LatencyHistogramTest, BucketsTileAllValues) {
  uint64_t begin = 0;
  for (size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    const uint64_t end = LatencyHistogram::BucketEnd(bucket);
    ASSERT_LE(begin, end) << bucket;
    EXPECT_EQ(LatencyHistogram::BucketOf(begin), bucket);
    EXPECT_EQ(LatencyHistogram::BucketOf(end), bucket);
    ASSERT_LE(end - begin, begin / LatencyHistogram::kSubBuckets) << bucket;  // the promised width
    begin = end + 1;
  }
  EXPECT_EQ(begin, 0u);  // the last one ended at 2^64 - 1
  EXPECT_EQ(LatencyHistogram::BucketOf(kMax), LatencyHistogram::kBuckets - 1);
}

TEST(LatencyHistogramTest, SmallValuesAreExact) {
  LatencyHistogram histogram;
  for (uint64_t ns = 1; ns <= 200; ++ns) histogram.Record(ns);
  EXPECT_EQ(histogram.PercentileNs(0), 1u);
  EXPECT_EQ(histogram.PercentileNs(0.5), 100u);
  EXPECT_EQ(histogram.PercentileNs(0.99), 198u);
  EXPECT_EQ(histogram.PercentileNs(1), 200u);
  EXPECT_EQ(histogram.mean_ns(), 100.5);
}

TEST(LatencyHistogramTest, ExtremesAreKept) {
  LatencyHistogram histogram;
  histogram.Record(0);
  histogram.Record(kMax);
  EXPECT_EQ(histogram.min_ns(), 0u);
  EXPECT_EQ(histogram.max_ns(), kMax);
  EXPECT_EQ(histogram.PercentileNs(0.5), 0u);
  EXPECT_EQ(histogram.PercentileNs(1), kMax);
}

// Against sorting: never below the true percentile, and at most 1/128 above.
TEST(LatencyHistogramTest, PercentilesAreThoseOfTheSortedValues) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> durations(10, 3);
  LatencyHistogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(static_cast<uint64_t>(durations(random)));
    histogram.Record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double fraction : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const auto rank = static_cast<size_t>(std::ceil(fraction * values.size()));
    const uint64_t exact = values[std::max<size_t>(rank, 1) - 1];
    const uint64_t told = histogram.PercentileNs(fraction);
    EXPECT_GE(told, exact) << fraction;
    EXPECT_LE(told - exact, exact / LatencyHistogram::kSubBuckets) << fraction;
  }
}

TEST(LatencyHistogramTest, MergedIsAsIfRecordedInOne) {
  LatencyHistogram one;
  LatencyHistogram two;
  LatencyHistogram both;
  for (uint64_t ns = 1; ns < 1'000'000; ns = ns * 3 + 1) {
    (ns % 2 == 0 ? one : two).Record(ns);
    both.Record(ns);
  }
  one.Merge(two);
  EXPECT_EQ(one.count(), both.count());
  EXPECT_EQ(one.min_ns(), both.min_ns());
  EXPECT_EQ(one.max_ns(), both.max_ns());
  EXPECT_EQ(one.mean_ns(), both.mean_ns());
  for (double fraction = 0; fraction <= 1; fraction += 0.05) {
    EXPECT_EQ(one.PercentileNs(fraction), both.PercentileNs(fraction));
  }
}

}  // namespace
}  // namespace baton::shmctl

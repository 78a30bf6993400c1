#include "runtime/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace baton::runtime {
namespace {

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

// As the largest relative error has to hold for any value.
std::vector<uint64_t> SpreadValues() {
  std::mt19937_64 random(7);
  std::vector<uint64_t> values;
  for (int i = 0; i < 20'000; ++i) values.push_back(random() >> (random() % 64));
  return values;
}

uint64_t ExactPercentile(std::vector<uint64_t> values, double q) {
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(q * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

TEST(LatencyHistogramTest, BucketsFollowEachOtherWithoutAGap) {
  uint64_t first = 0;
  for (size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    const uint64_t last = LatencyHistogram::LastOf(bucket);
    ASSERT_GE(last, first) << bucket;
    ASSERT_EQ(LatencyHistogram::BucketOf(first), bucket);
    ASSERT_EQ(LatencyHistogram::BucketOf(last), bucket);
    first = last + 1;
  }
  EXPECT_EQ(first, 0u) << "the last bucket has to end with the largest number";
  EXPECT_EQ(LatencyHistogram::BucketOf(kMost), LatencyHistogram::kBuckets - 1);
}

TEST(LatencyHistogramTest, NoPercentileIsMoreThanOnePercentOff) {
  const std::vector<uint64_t> values = SpreadValues();
  LatencyHistogram histogram;
  for (const uint64_t value : values) histogram.Add(value);
  for (const double q : {0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const auto exact = static_cast<double>(ExactPercentile(values, q));
    const auto told = static_cast<double>(histogram.PercentileNs(q));
    EXPECT_GE(told, exact) << q;
    EXPECT_LE(told, exact * 1.01) << q;
  }
}

TEST(LatencyHistogramTest, LeastAndMostAreExact) {
  LatencyHistogram histogram;
  for (const uint64_t value :
       {uint64_t{1'000'003}, uint64_t{77'777'777'777}, uint64_t{5'000'001}}) {
    histogram.Add(value);
  }
  EXPECT_EQ(histogram.least_ns(), 1'000'003u);
  EXPECT_EQ(histogram.most_ns(), 77'777'777'777u);
  EXPECT_EQ(histogram.PercentileNs(1), 77'777'777'777u);
  EXPECT_DOUBLE_EQ(histogram.mean_ns(), (1'000'003.0 + 77'777'777'777.0 + 5'000'001.0) / 3);
}

TEST(LatencyHistogramTest, TheWholeRangeFits) {
  LatencyHistogram histogram;
  histogram.Add(0);
  histogram.Add(kMost);
  EXPECT_EQ(histogram.least_ns(), 0u);
  EXPECT_EQ(histogram.most_ns(), kMost);
  EXPECT_EQ(histogram.PercentileNs(0.5), 0u);
  EXPECT_EQ(histogram.PercentileNs(1), kMost);
}

TEST(LatencyHistogramTest, SmallLatenciesAreExact) {
  LatencyHistogram histogram;
  for (uint64_t ns = 1; ns <= 2 * LatencyHistogram::kSplit - 1; ++ns) histogram.Add(ns);
  EXPECT_EQ(histogram.PercentileNs(0.5), 128u);
  EXPECT_EQ(histogram.PercentileNs(0.01), 3u);
}

TEST(LatencyHistogramTest, EmptyIsZero) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.PercentileNs(0.99), 0u);
  EXPECT_EQ(histogram.least_ns(), 0u);
  EXPECT_EQ(histogram.mean_ns(), 0);
  int visited = 0;
  histogram.VisitBuckets([&](uint64_t, uint64_t) { ++visited; });
  EXPECT_EQ(visited, 0);
}

TEST(LatencyHistogramTest, MergedIsAsIfAllHadGoneIntoOne) {
  const std::vector<uint64_t> values = SpreadValues();
  LatencyHistogram all, odd, even;
  for (size_t i = 0; i < values.size(); ++i) {
    all.Add(values[i]);
    (i % 2 == 0 ? even : odd).Add(values[i]);
  }
  odd.Merge(even);
  odd.Merge(LatencyHistogram());
  EXPECT_EQ(odd.count(), all.count());
  EXPECT_EQ(odd.least_ns(), all.least_ns());
  EXPECT_EQ(odd.most_ns(), all.most_ns());
  EXPECT_NEAR(odd.mean_ns() / all.mean_ns(), 1, 1e-9);
  for (const double q : {0.0, 0.25, 0.5, 0.99, 1.0}) {
    EXPECT_EQ(odd.PercentileNs(q), all.PercentileNs(q)) << q;
  }
}

TEST(LatencyHistogramTest, BucketsAreVisitedInOrderAndHoldAll) {
  LatencyHistogram histogram;
  for (const uint64_t value : SpreadValues()) histogram.Add(value);
  uint64_t before = 0, count = 0;
  histogram.VisitBuckets([&](uint64_t last_ns, uint64_t in_it) {
    EXPECT_TRUE(count == 0 || last_ns > before);
    EXPECT_GT(in_it, 0u);
    before = last_ns;
    count += in_it;
  });
  EXPECT_EQ(count, histogram.count());
}

}  // namespace
}  // namespace baton::runtime

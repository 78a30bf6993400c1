// Latencies in buckets that widen with what they hold, as HdrHistogram has
// them: as many samples as a run gives in a fixed 58 KiB, each percentile at
// most 1/128 too large and never too small, least and most exact. For whatever
// measures calls: the benchmarks, `shmctl bench`.
//
// Thread safety: none; give each thread its own and Merge them.
#ifndef BATON_RUNTIME_LATENCY_HISTOGRAM_H_
#define BATON_RUNTIME_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace baton::runtime {

class LatencyHistogram {
 public:
  // Each power of two is split into this many buckets of one width; below twice
  // as many nanoseconds every value has a bucket of its own.
  static constexpr int kSplitBits = 7;
  static constexpr uint64_t kSplit = uint64_t{1} << kSplitBits;
  static constexpr size_t kBuckets = (64 - kSplitBits + 1) * kSplit;

  // Cost: some nanoseconds; no allocation.
  void Add(uint64_t ns) {
    ++counts_[BucketOf(ns)];
    ++count_;
    sum_ns_ += static_cast<double>(ns);
    least_ns_ = std::min(least_ns_, ns);
    most_ns_ = std::max(most_ns_, ns);
  }
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  // Exact; 0 without samples.
  uint64_t least_ns() const { return count_ == 0 ? 0 : least_ns_; }
  uint64_t most_ns() const { return most_ns_; }
  double mean_ns() const { return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_); }
  // What the share `q` (0 to 1) of all samples does not exceed: the end of its
  // bucket, or the largest sample. 0 without samples.
  uint64_t PercentileNs(double q) const;

  // Calls visit(last_ns, count) for each bucket that is not empty, in order;
  // `last_ns` is the largest value that falls into it.
  template <typename Visit>
  void VisitBuckets(Visit&& visit) const {
    for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
      if (counts_[bucket] != 0) visit(LastOf(bucket), counts_[bucket]);
    }
  }

  static constexpr size_t BucketOf(uint64_t ns) {
    const int shift = std::max(static_cast<int>(std::bit_width(ns)) - kSplitBits - 1, 0);
    return static_cast<size_t>(shift) * kSplit + static_cast<size_t>(ns >> shift);
  }
  static constexpr uint64_t LastOf(size_t bucket) {
    const size_t shift = bucket < 2 * kSplit ? 0 : bucket / kSplit - 1;
    const uint64_t first = static_cast<uint64_t>(bucket) - shift * kSplit;
    return (first << shift) + ((uint64_t{1} << shift) - 1);
  }

 private:
  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0;
  double sum_ns_ = 0;
  uint64_t least_ns_ = std::numeric_limits<uint64_t>::max();
  uint64_t most_ns_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_LATENCY_HISTOGRAM_H_

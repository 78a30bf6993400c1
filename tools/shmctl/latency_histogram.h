// Durations, counted in buckets whose width grows with what they hold: any
// number of them in 60 KB, each percentile right to 1 in 128.
//
// Thread safety: none; give each thread its own and Merge them.
#ifndef BATON_TOOLS_SHMCTL_LATENCY_HISTOGRAM_H_
#define BATON_TOOLS_SHMCTL_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace baton::shmctl {

class LatencyHistogram {
 public:
  // Cost: a few nanoseconds, no allocation.
  void Record(uint64_t ns) {
    ++buckets_[BucketOf(ns)];
    ++count_;
    sum_ns_ += static_cast<double>(ns);
    min_ns_ = std::min(min_ns_, ns);
    max_ns_ = std::max(max_ns_, ns);
  }
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  // Exact. 0 when nothing was recorded.
  uint64_t min_ns() const { return count_ == 0 ? 0 : min_ns_; }
  uint64_t max_ns() const { return max_ns_; }
  double mean_ns() const { return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_); }

  // The smallest duration that at least `fraction` (0 to 1) of those recorded
  // do not exceed, rounded up to the end of its bucket: never told too small,
  // and at most 1/128 too large. 0 when nothing was recorded.
  uint64_t PercentileNs(double fraction) const;

  // Values below 2^(kSubBits+1) have a bucket each; above, each power of two is
  // split into 2^kSubBits.
  static constexpr int kSubBits = 7;
  static constexpr size_t kSubBuckets = size_t{1} << kSubBits;
  static constexpr size_t kBuckets = (64 - kSubBits + 1) * kSubBuckets;

  static constexpr size_t BucketOf(uint64_t ns) {
    if (ns < kSubBuckets) return ns;
    const int shift = std::bit_width(ns) - kSubBits - 1;
    return (static_cast<size_t>(shift) << kSubBits) + static_cast<size_t>(ns >> shift);
  }
  // The largest value that falls into `bucket`.
  static constexpr uint64_t BucketEnd(size_t bucket) {
    if (bucket < 2 * kSubBuckets) return bucket;
    const size_t shift = (bucket >> kSubBits) - 1;
    const uint64_t top = (bucket & (kSubBuckets - 1)) + kSubBuckets;
    return (top << shift) + ((uint64_t{1} << shift) - 1);
  }

 private:
  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  double sum_ns_ = 0;
  uint64_t min_ns_ = std::numeric_limits<uint64_t>::max();
  uint64_t max_ns_ = 0;
};

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_LATENCY_HISTOGRAM_H_

#include "runtime/latency_histogram.h"

#include <cmath>

namespace baton::runtime {

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) counts_[bucket] += other.counts_[bucket];
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
  least_ns_ = std::min(least_ns_, other.least_ns_);
  most_ns_ = std::max(most_ns_, other.most_ns_);
}

uint64_t LatencyHistogram::PercentileNs(double q) const {
  if (count_ == 0) return 0;
  const auto samples = static_cast<double>(count_);
  // The first sample at least; and no more than there are, whatever rounding does.
  const auto wanted =
      static_cast<uint64_t>(std::clamp(std::ceil(q * samples), 1.0, std::max(samples, 1.0)));
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[bucket];
    if (seen >= std::min(wanted, count_)) return std::min(LastOf(bucket), most_ns_);
  }
  return most_ns_;
}

}  // namespace baton::runtime

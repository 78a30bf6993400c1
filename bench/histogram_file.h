// All that was measured, for plots: one JSON file.
//
//   {"context": {"machine": "...", ...},
//    "histograms": [{"name": "RoundTrip/64/in_place", "count": 5, "min_ns": 401,
//                    "max_ns": 911, "mean_ns": 500.2, "buckets": [[401, 3], [415, 2]]}]}
//
// A bucket is [the largest latency in it, how many].
#ifndef BATON_BENCH_HISTOGRAM_FILE_H_
#define BATON_BENCH_HISTOGRAM_FILE_H_

#include <map>
#include <string>

#include "absl/status/status.h"

#include "runtime/latency_histogram.h"

namespace baton::bench {

std::string HistogramsJson(
    const std::map<std::string, std::string>& context,
    const std::map<std::string, const runtime::LatencyHistogram*>& histograms);

// Replaces `path`.
absl::Status WriteFile(const std::string& path, const std::string& text);

}  // namespace baton::bench

#endif  // BATON_BENCH_HISTOGRAM_FILE_H_

// Latencies one by one, and their percentiles: means hide what matters.
#ifndef BATON_BENCH_LATENCY_SAMPLES_H_
#define BATON_BENCH_LATENCY_SAMPLES_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace baton::bench {

// A clock that costs little: the time-stamp counter where there is one
// (constant rate, calibrated against CLOCK_MONOTONIC at first use).
uint64_t Ticks();
double NsPerTick();

// Thread safety: none. Adding allocates nothing until `reserve` samples.
class LatencySamples {
 public:
  explicit LatencySamples(size_t reserve = 4'000'000) { ticks_.reserve(reserve); }

  void Add(uint64_t ticks) { ticks_.push_back(ticks); }
  size_t size() const { return ticks_.size(); }
  // q in [0, 1]; 0 without samples. Sorts.
  double PercentileNs(double q);
  // Sets p50_ns, p90_ns, p99_ns, p999_ns and max_ns.
  void Report(benchmark::State& state);

 private:
  std::vector<uint64_t> ticks_;
  bool sorted_ = false;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_LATENCY_SAMPLES_H_

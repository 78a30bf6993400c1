#include "bench/latency_samples.h"

#include <algorithm>
#include <ctime>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace baton::bench {
namespace {

int64_t MonotonicNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

double Calibrate() {
#if defined(__x86_64__)
  const int64_t start_ns = MonotonicNs();
  const uint64_t start = Ticks();
  while (MonotonicNs() - start_ns < 20'000'000) {
  }
  const int64_t end_ns = MonotonicNs();
  return static_cast<double>(end_ns - start_ns) / static_cast<double>(Ticks() - start);
#else
  return 1.0;
#endif
}

}  // namespace

uint64_t Ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return static_cast<uint64_t>(MonotonicNs());
#endif
}

double NsPerTick() {
  static const double ns = Calibrate();
  return ns;
}

double LatencySamples::PercentileNs(double q) {
  if (ticks_.empty()) return 0;
  if (!sorted_) std::sort(ticks_.begin(), ticks_.end());
  sorted_ = true;
  const auto rank = static_cast<size_t>(q * static_cast<double>(ticks_.size() - 1) + 0.5);
  return static_cast<double>(ticks_[rank]) * NsPerTick();
}

void LatencySamples::Report(benchmark::State& state) {
  state.counters["p50_ns"] = PercentileNs(0.5);
  state.counters["p90_ns"] = PercentileNs(0.9);
  state.counters["p99_ns"] = PercentileNs(0.99);
  state.counters["p999_ns"] = PercentileNs(0.999);
  state.counters["max_ns"] = PercentileNs(1);
}

}  // namespace baton::bench

// Durations that were measured, in nanoseconds.
#ifndef BATON_TOOLS_GPU_CHECK_SAMPLES_H_
#define BATON_TOOLS_GPU_CHECK_SAMPLES_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace baton::gpu_check {

// One thread at a time. Median and Most need at least one sample.
class Samples {
 public:
  void Add(double nanoseconds) { values_.push_back(nanoseconds); }
  size_t count() const { return values_.size(); }
  double Median() const {
    std::vector<double> sorted = values_;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
  }
  double Most() const { return *std::max_element(values_.begin(), values_.end()); }

 private:
  std::vector<double> values_;
};

class Stopwatch {
 public:
  using Clock = std::chrono::steady_clock;
  double Nanoseconds() const {
    return std::chrono::duration<double, std::nano>(Clock::now() - start_).count();
  }

 private:
  const Clock::time_point start_ = Clock::now();
};

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_SAMPLES_H_

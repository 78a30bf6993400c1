// Things that are measured in turns, a slice each, so that noise on the machine
// meets all alike.
#ifndef BATON_BENCH_EXPERIMENT_H_
#define BATON_BENCH_EXPERIMENT_H_

#include <benchmark/benchmark.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "bench/latency_samples.h"

namespace baton::bench {

// What is measured: one operation at a time, between Begin and End. Outside of
// them a subject keeps off the CPUs. False where something has failed.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual bool Begin() { return true; }
  virtual void End() {}
  virtual bool Once() = 0;
  // What is due after each Once, and not measured.
  virtual bool After() { return true; }
  // Requests that one operation is; 0: it is one, and its latency is what counts.
  virtual uint32_t requests() const { return 0; }
};

class Experiment {
 public:
  void Add(const std::string& name, std::unique_ptr<Subject> subject) {
    subjects_[name].subject = std::move(subject);
  }

  // Runs all of it, at the first call; takes seconds.
  void Run();
  // The percentiles of one subject, as counters; its median is the benchmark's time.
  void Report(benchmark::State& state, const std::string& name);
  // 0 where it has failed.
  double MedianNs(const std::string& name);

 private:
  static constexpr int kSlices = 20;
  static constexpr int kSamplesPerSlice = 10'000;
  static constexpr int kWarmUp = 2'000;

  struct One {
    std::unique_ptr<Subject> subject;
    LatencySamples samples{kSlices * kSamplesPerSlice};
    bool failed = false;
  };
  static void Repeat(One& one, int times, LatencySamples* samples);

  std::map<std::string, One> subjects_;
  bool done_ = false;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_EXPERIMENT_H_

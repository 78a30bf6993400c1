// What is measured, and what is kept of it.
#ifndef BATON_BENCH_SUBJECT_H_
#define BATON_BENCH_SUBJECT_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"

#include "bench/latency_samples.h"
#include "runtime/latency_histogram.h"

namespace baton::bench {

struct Measured {
  runtime::LatencyHistogram latency;
  uint64_t operations = 0;
  uint64_t ticks = 0;  // in which they were done
  // Figures of another kind, by the names of their counters.
  std::map<std::string, double> figures;

  void AddLatency(uint64_t ticks_taken) {
    latency.Add(static_cast<uint64_t>(static_cast<double>(ticks_taken) * NsPerTick() + 0.5));
  }
};

// Takes turns with others: does its work between Begin and End, and keeps off
// the CPUs outside of them. What its destructor ends does not outlive it.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual absl::Status Begin() { return absl::OkStatus(); }
  virtual absl::Status End() { return absl::OkStatus(); }
  // Works until `Ticks()` is `until`, at least one operation.
  virtual absl::Status Run(uint64_t until, Measured& measured) = 0;
};

// One operation at a time, each of them timed.
class TimedSubject : public Subject {
 public:
  absl::Status Run(uint64_t until, Measured& measured) final {
    const uint64_t begin = Ticks();
    uint64_t end = begin;
    do {
      if (absl::Status status = Between(); !status.ok()) return status;
      const uint64_t start = Ticks();
      if (absl::Status status = Once(); !status.ok()) return status;
      end = Ticks();
      measured.AddLatency(end - start);
      ++measured.operations;
    } while (end < until);
    measured.ticks += end - begin;
    return absl::OkStatus();
  }

 protected:
  // Untimed, before each operation.
  virtual absl::Status Between() { return absl::OkStatus(); }
  virtual absl::Status Once() = 0;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_SUBJECT_H_

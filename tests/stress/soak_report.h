// The figures of a soak, and how they are shown.
#ifndef BATON_TESTS_STRESS_SOAK_REPORT_H_
#define BATON_TESTS_STRESS_SOAK_REPORT_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace baton::testing {

// One process at one moment.
struct ProcessFigures {
  uint64_t resident_bytes = 0;
  uint64_t own_bytes = 0;  // anonymous memory
  int descriptors = 0;
  int mappings = 0;
};
ProcessFigures FiguresOf(pid_t pid);

// All that is to be flat, at one moment.
struct SoakSample {
  uint64_t reloads = 0;
  ProcessFigures supervisor;
  ProcessFigures worker;
  ProcessFigures fronts[2];
  size_t processes = 0;
  int zombies = 0;
  size_t shared_memory_names = 0;
};

struct SoakReport {
  uint64_t reloads = 0, by_secrets = 0, by_command = 0;
  uint64_t submitted = 0, answered = 0;
  uint64_t failed = 0, lost = 0, duplicated = 0, wrong = 0, reordered = 0, went_back = 0;
  std::vector<uint64_t> gaps_ns;  // as clients saw them, each channel and reload one
  uint64_t device_peak_bytes = 0, device_model_bytes = 0;
  size_t device_peak_arenas = 0;
  uint64_t device_samples = 0;
  double seconds = 0;
  SoakSample first, last;  // after the warm-up, and at the end

  double GapMs(double quantile) const;
  std::string Text() const;
  std::string Json() const;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_STRESS_SOAK_REPORT_H_

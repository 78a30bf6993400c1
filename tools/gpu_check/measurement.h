// One thing to find out about a GPU: a function in a file of its own under
// measurements/, run in a process of its own, which is killed with all that it
// started when its time is up.
//
// A new one: write measurements/x.cc, declare its function below, and add it to
// the list in measurements.cc. See DESIGN.md.
#ifndef BATON_TOOLS_GPU_CHECK_MEASUREMENT_H_
#define BATON_TOOLS_GPU_CHECK_MEASUREMENT_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "tools/gpu_check/report.h"

namespace baton::gpu_check {

struct Settings {
  unsigned device = 0;     // CUDA's ordinal
  bool simulated = false;  // the GPU is one, and figures say so
  bool small = false;      // little memory and few repetitions

  // Of so many on real hardware. A multiple of what VMM allocates in.
  uint64_t Bytes(uint64_t full) const {
    return small ? std::max<uint64_t>(full >> 6, kLeastBytes) : full;
  }
  uint32_t Times(uint32_t full) const { return small ? std::max<uint32_t>(full / 20, 2) : full; }

  static constexpr uint64_t kLeastBytes = 2 << 20;
};

struct Measurement {
  std::string_view name;
  std::string_view about;
  absl::Duration time_limit;
  // An error becomes a row; what was reported before it stays.
  absl::Status (*run)(const Settings& settings, Report& report);
};

// In the order in which they run.
std::span<const Measurement> Measurements();
// nullptr: there is none of that name.
const Measurement* FindMeasurement(std::string_view name);

absl::Status MeasureMachine(const Settings& settings, Report& report);
absl::Status MeasureNvml(const Settings& settings, Report& report);
absl::Status MeasureContext(const Settings& settings, Report& report);
absl::Status MeasureIpcCost(const Settings& settings, Report& report);
absl::Status MeasureIpcRefusals(const Settings& settings, Report& report);
absl::Status MeasureKilledExporter(const Settings& settings, Report& report);
absl::Status MeasureDeathUnderMapping(const Settings& settings, Report& report);
absl::Status MeasureVmmCost(const Settings& settings, Report& report);
absl::Status MeasureVmmLifetime(const Settings& settings, Report& report);
absl::Status MeasureReadOnlyImport(const Settings& settings, Report& report);
absl::Status MeasureUploads(const Settings& settings, Report& report);
absl::Status MeasureUploadRing(const Settings& settings, Report& report);
absl::Status MeasureRegisteredSegment(const Settings& settings, Report& report);
absl::Status MeasureSampler(const Settings& settings, Report& report);
absl::Status MeasureTrialAllocation(const Settings& settings, Report& report);
absl::Status MeasureRoundTrip(const Settings& settings, Report& report);
absl::Status MeasureReload(const Settings& settings, Report& report);

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_MEASUREMENT_H_

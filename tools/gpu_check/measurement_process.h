// Runs a measurement in a process of its own and collects its rows.
#ifndef BATON_TOOLS_GPU_CHECK_MEASUREMENT_PROCESS_H_
#define BATON_TOOLS_GPU_CHECK_MEASUREMENT_PROCESS_H_

#include <string>
#include <vector>

#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/row.h"

namespace baton::gpu_check {

// Starts `program` with `args` and reads rows from what it has as descriptor
// kRowsFd. When `time_limit` is over, it and all that it started are killed. A
// bad end is a row, after those that had come: it says how it ended. One
// thread, which has to live as long as the call.
std::vector<Row> RunInProcess(const std::string& program, const std::vector<std::string>& args,
                              const std::string& name, absl::Duration time_limit);
inline constexpr int kRowsFd = 3;

// RunInProcess of this program.
std::vector<Row> RunMeasurement(const Measurement& measurement, const Settings& settings);

// The other side: runs it and writes its rows to kRowsFd. The exit code.
int MeasureHere(const Measurement& measurement, const Settings& settings);

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_MEASUREMENT_PROCESS_H_

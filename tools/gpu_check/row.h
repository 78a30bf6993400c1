// A line of the table that tools/gpu-check makes: something measured, a fact
// that was checked, or a test's result.
//
// Thread safety: plain values and functions, any thread.
#ifndef BATON_TOOLS_GPU_CHECK_ROW_H_
#define BATON_TOOLS_GPU_CHECK_ROW_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace baton::gpu_check {

enum class Outcome {
  kMeasured,      // a figure that is held to nothing
  kMet,           // a figure within its target
  kMissed,        // one outside
  kAsExpected,    // a fact that the protocol rests on, and it is one
  kContradicted,  // and here it is none: the design has to be looked at
  kPassed,        // a test
  kError,         // what failed, so that there is no figure
  kSkipped,       // not to be had here, which is no failure
};

// "measured", "CONTRADICTED", ...: as it is written and read.
std::string_view OutcomeText(Outcome outcome);
// Whether a run with such a row may be called passed.
bool IsGood(Outcome outcome);

struct Target {
  double bound = 0;
  bool at_most = true;  // else: at least
  friend bool operator==(const Target&, const Target&) = default;
};
// "<= 2.5", ">= 40"
std::string TargetText(const Target& target);

struct Row {
  std::string name;
  std::optional<double> value = {};
  std::string unit = {};
  std::optional<Target> target = {};
  Outcome outcome = Outcome::kMeasured;
  std::string note = {};
  friend bool operator==(const Row&, const Row&) = default;
};

// The figure with four digits that count: "0.01235", "51.23", "143771".
std::string FigureText(double value);

// How rows travel between processes, and from the script to the table: one line
// each (without its end), fields separated by tabs:
//
//   name, value, unit, target, outcome, note
//
// A tab, a line end or a backslash in a field is \t, \n or \\.
std::string RowLine(const Row& row);
// INVALID_ARGUMENT says which field is wrong.
absl::StatusOr<Row> ParseRowLine(std::string_view line);

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_ROW_H_

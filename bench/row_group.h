// Rows that are measured in turns, a slice each, so that what else happens on
// the machine meets all alike. Only rows of one group are compared.
#ifndef BATON_BENCH_ROW_GROUP_H_
#define BATON_BENCH_ROW_GROUP_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "bench/subject.h"

namespace baton::bench {

// A counter of a row that says how it stands against another row of its group.
struct Comparison {
  enum class Of {
    kMedian,   // how many times as long its median takes
    kRate,     // how many times as many operations the other one does in a second
    kOwnRate,  // how many times as many operations this one does in a second
  };
  std::string counter;
  std::string with;  // a row's name
  Of of = Of::kMedian;
};

struct Row {
  std::string name;
  // Starts all that it takes. Called when the group's turn comes.
  std::function<absl::StatusOr<std::unique_ptr<Subject>>()> make;
  std::vector<Comparison> comparisons = {};
  bool shows_rate = false;  // a counter requests_per_s
  // Somebody else's: that it cannot run here does not fail the run.
  bool optional = false;
  // It takes more memory than caches hold: its speed depends on which pages it gets.
  bool large = false;
};

struct RowResult {
  absl::Status status;  // why there is nothing, or not all
  Measured measured;
  std::map<std::string, double> comparisons;

  double PerSecond() const;
  // Also what was measured another time: all latencies, rates of both together, the figures and the
  // comparisons of this one where it has any.
  void Add(const RowResult& other);
};

struct RunOptions {
  double seconds_per_row = 2;
  int slices = 10;
};

// How often the rows of a group with a large one are started anew.
inline constexpr int kLargeRounds = 5;

// Measures the `wanted` rows of `group`, and those that they are compared with.
// A row that fails is left out from then on; the others go on. Everything that
// was started has ended when it returns.
//
// With a `large` row among them all are started anew five times, each time in another
// order, for a share of the slices each time: whoever gets pages that lie scattered
// takes longer, and that is luck. What is compared are rounds, and the
// counters are the medians of those.
std::map<std::string, RowResult> MeasureGroup(const std::vector<Row>& group,
                                              const std::set<std::string>& wanted,
                                              const RunOptions& options);

}  // namespace baton::bench

#endif  // BATON_BENCH_ROW_GROUP_H_

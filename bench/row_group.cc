#include "bench/row_group.h"

#include <utility>

namespace baton::bench {
namespace {

// Of a slice, untimed and first: after the others' turns, its lines are cold.
constexpr double kWarmUpShare = 0.15;

struct Running {
  std::unique_ptr<Subject> subject;
  RowResult* result = nullptr;
};

uint64_t TicksOf(double seconds) { return static_cast<uint64_t>(seconds * 1e9 / NsPerTick()); }

absl::Status RunSlice(Subject& subject, double seconds, Measured& measured) {
  absl::Status status = subject.Begin();
  Measured ignored;
  if (status.ok()) status = subject.Run(Ticks() + TicksOf(seconds * kWarmUpShare), ignored);
  if (status.ok()) status = subject.Run(Ticks() + TicksOf(seconds), measured);
  const absl::Status ended = subject.End();
  return status.ok() ? ended : status;
}

double Compare(const RowResult& one, const RowResult& with, Comparison::Of of) {
  if (of == Comparison::Of::kRate) return with.PerSecond() / one.PerSecond();
  if (of == Comparison::Of::kOwnRate) return one.PerSecond() / with.PerSecond();
  return static_cast<double>(one.measured.latency.PercentileNs(0.5)) /
         static_cast<double>(with.measured.latency.PercentileNs(0.5));
}

}  // namespace

double RowResult::PerSecond() const {
  const double seconds = static_cast<double>(measured.ticks) * NsPerTick() * 1e-9;
  return seconds > 0 ? static_cast<double>(measured.operations) / seconds : 0;
}

std::map<std::string, RowResult> MeasureGroup(const std::vector<Row>& group,
                                              const std::set<std::string>& wanted,
                                              const RunOptions& options) {
  std::set<std::string> names = wanted;
  for (const Row& row : group) {
    if (!wanted.contains(row.name)) continue;
    for (const Comparison& one : row.comparisons) names.insert(one.with);
  }
  std::map<std::string, RowResult> results;
  std::vector<Running> running;
  for (const Row& row : group) {
    if (!names.contains(row.name)) continue;
    RowResult& result = results[row.name];
    absl::StatusOr<std::unique_ptr<Subject>> subject = row.make();
    result.status = subject.status();
    if (subject.ok()) running.push_back({.subject = *std::move(subject), .result = &result});
  }
  for (int slice = 0; slice < options.slices; ++slice) {
    for (Running& one : running) {
      if (!one.result->status.ok()) continue;
      one.result->status =
          RunSlice(*one.subject, options.seconds_per_row / options.slices, one.result->measured);
    }
  }
  running.clear();
  for (const Row& row : group) {
    if (!wanted.contains(row.name) || !results[row.name].status.ok()) continue;
    for (const Comparison& comparison : row.comparisons) {
      const auto with = results.find(comparison.with);
      if (with == results.end() || !with->second.status.ok()) continue;
      RowResult& result = results[row.name];
      result.comparisons[comparison.counter] = Compare(result, with->second, comparison.of);
    }
  }
  return results;
}

}  // namespace baton::bench

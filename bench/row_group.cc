#include "bench/row_group.h"

#include <algorithm>
#include <random>
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

using Results = std::map<std::string, RowResult>;

// The rows of `names`, started in the order in which they stand, in later rounds in others.
Results MeasureRound(const std::vector<Row>& group, const std::set<std::string>& names,
                     const RunOptions& options, int round) {
  std::vector<const Row*> rows;
  for (const Row& row : group) {
    if (names.contains(row.name)) rows.push_back(&row);
  }
  // The same orders in every run.
  if (round > 0) std::shuffle(rows.begin(), rows.end(), std::mt19937(round));
  Results results;
  std::vector<Running> running;
  for (const Row* const row : rows) {
    RowResult& result = results[row->name];
    absl::StatusOr<std::unique_ptr<Subject>> subject = row->make();
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
  return results;
}

// What each round's rows were against each other, by row and counter.
using Ratios = std::map<std::string, std::map<std::string, std::vector<double>>>;

void CompareRows(const std::vector<Row>& group, const Results& round, Ratios& ratios) {
  for (const Row& row : group) {
    const auto one = round.find(row.name);
    if (one == round.end() || !one->second.status.ok()) continue;
    for (const Comparison& comparison : row.comparisons) {
      const auto with = round.find(comparison.with);
      if (with == round.end() || !with->second.status.ok()) continue;
      ratios[row.name][comparison.counter].push_back(
          Compare(one->second, with->second, comparison.of));
    }
  }
}

}  // namespace

double RowResult::PerSecond() const {
  const double seconds = static_cast<double>(measured.ticks) * NsPerTick() * 1e-9;
  return seconds > 0 ? static_cast<double>(measured.operations) / seconds : 0;
}

void RowResult::Add(const RowResult& other) {
  status.Update(other.status);
  measured.latency.Merge(other.measured.latency);
  measured.operations += other.measured.operations;
  measured.ticks += other.measured.ticks;
  measured.figures.insert(other.measured.figures.begin(), other.measured.figures.end());
  comparisons.insert(other.comparisons.begin(), other.comparisons.end());
}

std::map<std::string, RowResult> MeasureGroup(const std::vector<Row>& group,
                                              const std::set<std::string>& wanted,
                                              const RunOptions& options) {
  std::set<std::string> names = wanted;
  bool large = false;
  for (const Row& row : group) {
    if (!wanted.contains(row.name)) continue;
    large = large || row.large;
    for (const Comparison& one : row.comparisons) names.insert(one.with);
  }
  const int rounds = large ? kLargeRounds : 1;
  const RunOptions share = {.seconds_per_row = options.seconds_per_row / rounds,
                            .slices = std::max(1, options.slices / rounds)};
  Results results;
  Ratios ratios;
  for (int round = 0; round < rounds; ++round) {
    const Results one = MeasureRound(group, names, share, round);
    CompareRows(group, one, ratios);
    for (const auto& [name, result] : one) {
      results[name].Add(result);
      if (!result.status.ok()) names.erase(name);
    }
  }
  for (const Row& row : group) {
    if (!wanted.contains(row.name) || !results[row.name].status.ok()) continue;
    for (const Comparison& comparison : row.comparisons) {
      std::vector<double>& values = ratios[row.name][comparison.counter];
      if (values.empty() || !results[comparison.with].status.ok()) continue;
      std::sort(values.begin(), values.end());
      results[row.name].comparisons[comparison.counter] = values[values.size() / 2];
    }
  }
  return results;
}

}  // namespace baton::bench

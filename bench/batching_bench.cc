// What batching is worth: the digits model, 64 callers at once.
//
//   Batch/1               each request is a call of the model
//   Batch/64              `batching: {max_batch: 64}`: what is there already goes into one call
//   Batch/32              half of the callers: one half is answered while the other is computed
//   Batch/64/delay:<us>   the first request of a batch waits so long for others
//   Batch/<n>/channels:1  the callers share one channel: one poll and one submit for all that is
//                         there
//   Bare/<n>              batches of n without a runtime: flags and images in memory of two threads
//                         (bare_callers.h). What is left to win
//
// A caller has one bound request of one image in flight, on a channel of its own but in the last
// rows: as soon as it is answered it is submitted again. One thread, which never sleeps, is all 64
// of them: the machine need not have a CPU for each. It and the worker's serving thread are pinned
// to two CPUs.
//
// Counters: requests_per_s; x_batch1: how many times as many as the same callers have without
// batches (Bare: than Batch/1); of_bare: the rate against that of Bare with the same max_batch;
// p50_us and p99_us from Submit to the Poll that gives the answer; service_us: the time in
// the model of one call, the median over requests; p99_bound_us: delay + 2 x service; x_p99_bound:
// p99 against it. Every row is measured in five rounds of slices, all rows in turns; figures are
// medians of the five. Rows of one run may be compared.
//
// Options, beside Google Benchmark's: --seconds_per_row=2 (all five rounds together)
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "bench/bare_callers.h"
#include "bench/digits_callers.h"
#include "bench/row_group.h"
#include "bench/shown_rows.h"

namespace baton::bench {
namespace {

constexpr int kFrontCpu = 0;
constexpr int kWorkerCpu = 1;
constexpr size_t kCallers = 64;
constexpr int kRounds = 5;

struct Case {
  std::string name;
  uint32_t max_batch;
  int64_t max_delay_us;
  size_t channels = kCallers;          // 0: without a runtime
  std::string one_by_one = "Batch/1";  // the same without batches

  bool bare() const { return channels == 0; }
};

const std::vector<Case>& Cases() {
  static const auto& cases =
      *new std::vector<Case>{{"Batch/1", 1, 0},
                             {"Batch/32", 32, 0},
                             {"Batch/64", 64, 0},
                             {"Batch/64/delay:5", 64, 5},
                             {"Batch/64/delay:50", 64, 50},
                             {"Batch/1/channels:1", 1, 0, 1, "Batch/1/channels:1"},
                             {"Batch/64/channels:1", 64, 0, 1, "Batch/1/channels:1"},
                             {"Bare/1", 1, 0, 0},
                             {"Bare/32", 32, 0, 0},
                             {"Bare/64", 64, 0, 0}};
  return cases;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class BatchingRun {
 public:
  explicit BatchingRun(double seconds_per_row) : seconds_per_row_(seconds_per_row) {}

  absl::Status Start() {
    for (const Case& one : Cases()) {
      if (one.bare()) continue;
      absl::StatusOr<std::unique_ptr<DigitsCallers>> callers =
          DigitsCallers::Start({.max_batch = one.max_batch,
                                .max_delay_us = one.max_delay_us,
                                .callers = kCallers,
                                .channels = one.channels,
                                .worker_cpu = kWorkerCpu});
      if (!callers.ok()) return callers.status();
      callers_[one.name] = *std::move(callers);
    }
    return absl::OkStatus();
  }

  void Show(const Case& one, benchmark::State& state) {
    Measure();
    for (auto _ : state) state.SetIterationTime(Of(one.name, "p50_us") * 1e-6);
    if (!failures_[one.name].ok()) {
      state.SkipWithError(std::string(failures_[one.name].message()).c_str());
      return;
    }
    for (const auto& [counter, values] : values_[one.name]) {
      state.counters[counter] = Median(values);
    }
    const double bound_us = static_cast<double>(one.max_delay_us) + 2 * Of(one.name, "service_us");
    state.counters["p99_bound_us"] = bound_us;
    state.counters["x_p99_bound"] = Of(one.name, "p99_us") / bound_us;
  }

 private:
  double Of(const std::string& name, const std::string& counter) {
    return Median(values_[name][counter]);
  }
  // All rows, at the first call.
  void Measure() {
    if (!values_.empty()) return;
    std::vector<Row> group;
    std::set<std::string> names;
    for (const Case& one : Cases()) {
      names.insert(one.name);
      group.push_back({.name = one.name, .make = [this, &one] { return MakeSubject(one); }});
    }
    for (int round = 0; round < kRounds; ++round) {
      const std::map<std::string, RowResult> results =
          MeasureGroup(group, names, {.seconds_per_row = seconds_per_row_ / kRounds, .slices = 4});
      for (const Case& one : Cases()) {
        Note(one, results);
      }
    }
  }
  absl::StatusOr<std::unique_ptr<Subject>> MakeSubject(const Case& one) {
    if (one.bare()) return StartBareCallers(kCallers, one.max_batch, kWorkerCpu);
    return callers_[one.name]->MakeSubject();
  }
  void Note(const Case& one, const std::map<std::string, RowResult>& results) {
    const RowResult& result = results.at(one.name);
    if (!result.status.ok()) failures_[one.name] = result.status;
    std::map<std::string, std::vector<double>>& values = values_[one.name];
    const auto us = [&](double q) {
      return static_cast<double>(result.measured.latency.PercentileNs(q)) * 1e-3;
    };
    values["requests_per_s"].push_back(result.PerSecond());
    values["x_batch1"].push_back(result.PerSecond() / results.at(one.one_by_one).PerSecond());
    values["of_bare"].push_back(result.PerSecond() /
                                results.at(absl::StrCat("Bare/", one.max_batch)).PerSecond());
    values["p50_us"].push_back(us(0.5));
    values["p99_us"].push_back(us(0.99));
    for (const auto& [figure, value] : result.measured.figures) values[figure].push_back(value);
  }

  const double seconds_per_row_;
  std::map<std::string, std::unique_ptr<DigitsCallers>> callers_;
  std::map<std::string, absl::Status> failures_;
  std::map<std::string, std::map<std::string, std::vector<double>>> values_;
};

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  double seconds_per_row = 2;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    constexpr std::string_view kSeconds = "--seconds_per_row=";
    if (!argument.starts_with(kSeconds)) {
      std::fprintf(stderr, "batching_bench: unknown argument %s\n", argv[i]);
      return 1;
    }
    seconds_per_row = std::atof(argv[i] + kSeconds.size());
  }
  const auto give_up = [](const absl::Status& why) { return GiveUp("batching_bench", why); };
  if (absl::Status cpus = NeedTwoCpus(); !cpus.ok()) return give_up(cpus);
  BatchingRun run(seconds_per_row);
  if (const absl::Status started = run.Start(); !started.ok()) return give_up(started);
  BecomeTheFront(kFrontCpu);
  std::vector<std::string> names;
  for (const Case& one : Cases()) names.push_back(one.name);
  return ShowRows(names, [&run](benchmark::State& state, const std::string& name) {
    const auto one = std::find_if(Cases().begin(), Cases().end(),
                                  [&](const Case& candidate) { return candidate.name == name; });
    run.Show(*one, state);
  });
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::Main(argc, argv); }

// What a request costs, beside what others cost who move bytes between two
// processes: measured by one program, in one run, in turns.
//
//   PingPongFloor              a bare cache-line ping-pong: the floor, measured with every group
//   RoundTrip/<bytes>/<mode>   Baton: loan, submit, take, answer, read, release; the front never
//                              sleeps, the worker spins for as long as it has learned that it pays
//   Bound/<bytes>/<mode>       the same of a bound request: submit, take, answer, read
//   WriteRead/<bytes>/produced the payload written and read in bare shared memory, no runtime
//   <Peer>/<bytes>/<mode>      BoostMessageQueue, BoostMessageQueueBlocking, Iceoryx, GrpcUds,
//                              UnixSocket, ZeroMq (bench/peers); the answer is 8 bytes everywhere
//   FutexWake                  two processes that sleep wake each other: two bare futex wakes
//   RoundTripSleeping          the same by Baton, front and worker asleep
//   WakeLatency/<spin_us>      how late a front notices an answer after 100 us, with that spin
//   budget SpscRing, Pipelined/32     a bare ring of 64-byte entries; 32 requests in flight on one
//   channel Channels/<n>               8 requests in flight on each of n channels, one worker, one
//   thread Fronts/<n>                 the same on 64 channels in all, of n processes; no latencies
//   BusyAmongIdle/<n>          round trips on one channel while n others are open
//   IdleCpu/<n>                what a server and a front with n channels take that do nothing
//
// Modes: `in_place` the payload lies already where the sender has it and nobody reads it;
// `produced` every byte is written by the sender and read by the receiver, once.
//
// Counters: p50_ns, p90_ns, p99_ns, p999_ns, p9999_ns, max_ns, samples; requests_per_s where that
// is the point; cpu_share, server_cpu_share, front_cpu_share, of one CPU; x_<other>: this row's
// median against that of another row of the same group (x_spsc_ring: how many times as many entries
// the ring takes in a second as Baton requests; x_channels1, x_fronts1: this row's requests in a
// second against those of one channel, one front).
// Groups: one payload and mode; wakes; wake latencies; pipelines; channels; fronts; busy among
// idle; idle. Figures of two groups were taken at different times, those of two runs even more so:
// compare the ratios.
//
// Options, beside Google Benchmark's (--benchmark_filter picks rows, and only those are run):
//   --seconds_per_row=2   --slices=10   --histograms=FILE (see histogram_file.h)
//
// The exit status is 1 where a row of ours has failed. A peer that cannot run here shows why.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "bench/histogram_file.h"
#include "bench/latency_rows.h"
#include "bench/machine_name.h"
#include "bench/peers/peer_end.h"
#include "bench/peers/peer_kinds.h"
#include "bench/ping_pong.h"
#include "bench/plain_names.h"

namespace baton::bench {
namespace {

struct Options {
  RunOptions run;
  std::string histograms;  // empty: no file
};

// False: an argument that is none of ours, or nonsense.
bool ParseOptions(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const size_t equals = argument.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view name = argument.substr(0, equals);
    const std::string value(argument.substr(equals + 1));
    if (name == "--seconds_per_row") {
      options->run.seconds_per_row = std::atof(value.c_str());
    } else if (name == "--slices") {
      options->run.slices = std::atoi(value.c_str());
    } else if (name == "--histograms") {
      options->histograms = value;
    } else {
      return false;
    }
  }
  return options->run.seconds_per_row > 0 && options->run.slices > 0;
}

// The rows that --benchmark_filter asks for, by the names that are shown: Google Benchmark itself
// adds to them before it looks.
class Filter {
 public:
  // False: it is no regular expression.
  bool Read(std::string text) {
    without_ = text.starts_with('-');
    if (without_) text.erase(0, 1);
    try {
      if (!text.empty() && text != "all") pattern_ = std::regex(text, std::regex::extended);
    } catch (const std::regex_error&) {
      return false;
    }
    return true;
  }
  bool Asks(const std::string& name) const { return std::regex_search(name, pattern_) != without_; }

 private:
  std::regex pattern_{"."};
  bool without_ = false;
};

class LatencyRun {
 public:
  LatencyRun(Options options, Filter filter)
      : options_(std::move(options)),
        filter_(std::move(filter)),
        cpus_(ChooseCpus()),
        catalog_(LatencyRows(cpus_, servers_)) {}

  void Register() {
    std::set<std::string> names;
    for (const std::vector<Row>& group : catalog_.groups) {
      for (const Row& row : group) {
        if (!filter_.Asks(row.name) || !names.insert(row.name).second) continue;
        benchmark::RegisterBenchmark(row.name.c_str(),
                                     [this, &row](benchmark::State& state) { Show(row, state); })
            ->UseManualTime()
            ->Iterations(1);
      }
    }
  }
  void Describe() {
    double load = 0;
    static_cast<void>(::getloadavg(&load, 1));
    context_ = {{"machine", MachineName()},
                {"load", absl::StrCat(load)},
                {"front_cpu", absl::StrCat(cpus_.front)},
                {"peer_cpu", absl::StrCat(cpus_.peer)},
                {"seconds_per_row", absl::StrCat(options_.run.seconds_per_row)},
                {"slices", absl::StrCat(options_.run.slices)},
                {"peers_left_out", absl::StrJoin(PeersLeftOut(), "; ")},
                {"rows_left_out", absl::StrJoin(catalog_.not_measured, "; ")}};
    for (const auto& [key, value] : context_) benchmark::AddCustomContext(key, value);
    for (const std::string& peer : PeersLeftOut()) {
      Say("without " + peer + ": tools/setup --bench, then configure again");
    }
    for (const std::string& row : catalog_.not_measured) Say("not measured: " + row);
    if (cpus_.front == cpus_.peer) Say("one CPU only: who polls waits for the scheduler");
  }
  // Of a row of ours.
  bool failed() const { return failed_; }

  absl::Status WriteHistograms() const {
    if (options_.histograms.empty()) return absl::OkStatus();
    std::map<std::string, const runtime::LatencyHistogram*> histograms;
    for (const auto& [name, result] : results_) {
      if (result.measured.latency.count() > 0) histograms[name] = &result.measured.latency;
    }
    return WriteFile(options_.histograms, HistogramsJson(context_, histograms));
  }

 private:
  static void Say(const std::string& line) {
    std::fprintf(stderr, "latency_bench: %s\n", line.c_str());
  }

  // Once, when the first row is to be shown.
  void MeasureAll() {
    if (measured_) return;
    measured_ = true;
    absl::StatusOr<std::unique_ptr<NullServer>> usual = NullServer::Launch(cpus_.peer);
    absl::StatusOr<std::unique_ptr<NullServer>> spinning = NullServer::LaunchSpinning(cpus_.peer);
    if (!usual.ok() || !spinning.ok()) {
      failed_ = true;
      Say((usual.ok() ? spinning : usual).status().ToString());
      return;
    }
    servers_ = {.usual = usual->get(), .spinning = spinning->get()};
    // After the server: what it starts may run anywhere.
    if (!PinThisThread(cpus_.front)) Say("cannot pin this process");
    for (const std::vector<Row>& group : catalog_.groups) {
      std::set<std::string> wanted;
      for (const Row& row : group) {
        if (row.name != kFloorRow && filter_.Asks(row.name)) wanted.insert(row.name);
      }
      // The floor comes with the others; where nothing else is asked for, once.
      const bool floor_alone =
          wanted.empty() && filter_.Asks(kFloorRow) && &group == &catalog_.groups[0];
      if (floor_alone || (!wanted.empty() && filter_.Asks(kFloorRow))) wanted.insert(kFloorRow);
      if (!wanted.empty()) MeasureOne(group, wanted);
    }
    servers_ = {};
  }
  void MeasureOne(const std::vector<Row>& group, const std::set<std::string>& wanted) {
    Say("measuring " + absl::StrJoin(wanted, ", "));
    for (auto& [name, result] : MeasureGroup(group, wanted, options_.run)) {
      if (!result.status.ok()) Say(name + ": " + result.status.ToString());
      results_[name].Add(result);
    }
  }

  void Show(const Row& row, benchmark::State& state) {
    MeasureAll();
    const RowResult& result = results_[row.name];
    const runtime::LatencyHistogram& latency = result.measured.latency;
    const auto p50 = static_cast<double>(latency.PercentileNs(0.5));
    for (auto _ : state) state.SetIterationTime(p50 * 1e-9);
    const bool empty = latency.count() == 0 && result.measured.figures.empty();
    if (!result.status.ok() || empty) {
      failed_ = failed_ || !row.optional;
      const std::string why = result.status.ok() ? "not measured" : result.status.ToString();
      state.SkipWithError(why.c_str());
      return;
    }
    auto& counters = state.counters;
    if (latency.count() > 0) {
      counters["p50_ns"] = p50;
      counters["p90_ns"] = static_cast<double>(latency.PercentileNs(0.9));
      counters["p99_ns"] = static_cast<double>(latency.PercentileNs(0.99));
      counters["p999_ns"] = static_cast<double>(latency.PercentileNs(0.999));
      counters["p9999_ns"] = static_cast<double>(latency.PercentileNs(0.9999));
      counters["max_ns"] = static_cast<double>(latency.most_ns());
      counters["samples"] = static_cast<double>(latency.count());
    }
    if (row.shows_rate) counters["requests_per_s"] = result.PerSecond();
    for (const auto& [name, value] : result.comparisons) counters[name] = value;
    for (const auto& [name, value] : result.measured.figures) counters[name] = value;
  }

  const Options options_;
  const Filter filter_;
  const CpuPair cpus_;
  NullServers servers_;
  const RowCatalog catalog_;
  std::map<std::string, std::string> context_;
  std::map<std::string, RowResult> results_;
  bool measured_ = false;
  bool failed_ = false;
};

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  Options options;
  Filter filter;
  if (!ParseOptions(argc, argv, &options) || !filter.Read(benchmark::GetBenchmarkFilter())) {
    std::fputs(
        "usage: latency_bench [--seconds_per_row=2] [--slices=10] [--histograms=FILE]\n"
        "                     [--benchmark_filter=REGEX] [another option of Google Benchmark]...\n",
        stderr);
    return 2;
  }
  LatencyRun run(options, filter);
  run.Register();
  run.Describe();
  PlainNames reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter, ".");
  benchmark::Shutdown();
  if (absl::Status status = run.WriteHistograms(); !status.ok()) {
    std::fprintf(stderr, "latency_bench: %s\n", status.ToString().c_str());
    return 1;
  }
  return run.failed() ? 1 : 0;
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) {
  int exit_code = 0;
  if (baton::bench::RanAsPeerEnd(argc, argv, &exit_code)) return exit_code;
  return baton::bench::Main(argc, argv);
}

// What a reload costs those who call meanwhile.
//
//   Reload/<bytes>   a model with <bytes> of weights on the host device
//     gap_p50_ms, gap_p99_ms, gap_max_ms   the longest time without an answer, as a client sees it
//                     that calls back to back while the model is reloaded
//     floor_ms        a memcpy of the same bytes from the page cache into fresh shared memory: what
//                     nobody can do without who gives a new process its weights after the old one
//                     has gone. Median; taken between the reloads while the client is paused, each
//                     the second of two in a row: a virtual machine pays its host for memory that
//                     it has not used lately
//     target_ms       1.3 x floor_ms + 20, for gap_p50_ms; without weights 10, for gap_p99_ms
//     peak_ratio      the most device memory that was seen at once, by an observer of /proc and by
//                     the receipts, against one model's
//     <state>_ms      median time in that state; <state>_share of the server's gap
//     reloads, answered, failed
//
// Every reload has to end swapped, with the verdict `freed`; every answer is checked. A row that
// ended with an error shows it, and the exit status is 1.
#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "bench/device_observer.h"
#include "bench/machine_name.h"
#include "bench/plain_names.h"
#include "bench/weights_server.h"
#include "ipc/futex.h"
#include "ipc/unique_fd.h"

namespace baton::bench {
namespace {

constexpr double kNsPerMs = 1e6;
// Of a reload that has nothing to copy.
constexpr double kBareTargetMs = 10;

struct Row {
  uint64_t bytes;
  int reloads;
  int reloads_per_floor;
};
// The first reload and the first floor of a row are not counted: they touch memory that the
// machine may never have touched before.
constexpr Row kRows[] = {
    {0, 200, 1}, {64u << 20, 60, 2}, {1u << 30, 30, 3}, {uint64_t{4} << 30, 10, 2}};

double Percentile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5);
  return values[rank];
}

// nullopt: no memory.
std::optional<double> FloorMs(std::span<const std::byte> weights) {
  if (weights.empty()) return 0;
  const ipc::UniqueFd fd(::memfd_create("bench-floor", MFD_CLOEXEC));
  const int64_t start = ipc::MonotonicNs();
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(weights.size())) != 0) return std::nullopt;
  void* to = ::mmap(nullptr, weights.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (to == MAP_FAILED) return std::nullopt;
  std::memcpy(to, weights.data(), weights.size());
  benchmark::DoNotOptimize(to);
  benchmark::ClobberMemory();
  const int64_t end = ipc::MonotonicNs();
  ::munmap(to, weights.size());
  return static_cast<double>(end - start) / kNsPerMs;
}

// With the client out of the way: it would keep one core busy, and its server the other.
std::optional<double> QuietFloorMs(GapClient& client, std::span<const std::byte> weights) {
  client.Pause();
  std::optional<double> floor = FloorMs(weights);
  if (floor) floor = FloorMs(weights);
  client.Resume();
  return floor;
}

struct Samples {
  std::vector<double> gap_ms;
  std::vector<double> floor_ms;
  std::vector<double> server_gap_ms;
  std::map<std::string, std::vector<double>> state_ms;
  uint64_t peak_bytes = 0;
};

// An error, or empty.
std::string ReloadOnce(WeightsServer& server, GapClient& client, Samples* samples) {
  client.Reset();
  const absl::StatusOr<ReloadFacts> facts = server.Reload();
  if (!facts.ok()) return facts.status().ToString();
  while (client.generation() != facts->successor && client.failed() == 0) {
    std::this_thread::yield();
  }
  if (client.failed() != 0) return "a request failed";
  if (samples == nullptr) return "";
  samples->gap_ms.push_back(static_cast<double>(client.longest_ns()) / kNsPerMs);
  samples->server_gap_ms.push_back(static_cast<double>(facts->gap_ns) / kNsPerMs);
  for (const auto& [state, ns] : facts->states_ns) {
    samples->state_ms[state].push_back(static_cast<double>(ns) / kNsPerMs);
  }
  samples->peak_bytes = std::max(samples->peak_bytes, facts->peak_bytes);
  return "";
}

std::string Measure(const Row& row, benchmark::State& state) {
  absl::StatusOr<std::unique_ptr<WeightsServer>> server = WeightsServer::Launch(row.bytes);
  if (!server.ok()) return server.status().ToString();
  absl::StatusOr<Channel> channel = (*server)->front().OpenChannel();
  if (!channel.ok()) return channel.status().ToString();
  GapClient client(*std::move(channel), row.bytes);
  Samples samples;
  const DeviceObserver observer((*server)->supervisor_pid());
  static_cast<void>(QuietFloorMs(client, (*server)->weights()));
  std::string error = ReloadOnce(**server, client, nullptr);
  for (int i = 0; i < row.reloads && error.empty(); ++i) {
    if (i % row.reloads_per_floor == 0) {
      const std::optional<double> floor = QuietFloorMs(client, (*server)->weights());
      if (!floor) return "no memory for the floor";
      samples.floor_ms.push_back(*floor);
    }
    error = ReloadOnce(**server, client, &samples);
  }
  if (!error.empty()) return error;

  auto& counters = state.counters;
  const double floor = Percentile(samples.floor_ms, 0.5);
  counters["gap_p50_ms"] = Percentile(samples.gap_ms, 0.5);
  counters["gap_p99_ms"] = Percentile(samples.gap_ms, 0.99);
  counters["gap_max_ms"] = Percentile(samples.gap_ms, 1);
  counters["floor_ms"] = floor;
  counters["target_ms"] = row.bytes == 0 ? kBareTargetMs : 1.3 * floor + 20;
  const uint64_t peak = std::max(samples.peak_bytes, observer.peak_bytes());
  // Without weights there is nothing to hold: 0.
  counters["peak_ratio"] = row.bytes == 0
                               ? static_cast<double>(peak)
                               : static_cast<double>(peak) / static_cast<double>(row.bytes);
  const double server_gap = Percentile(samples.server_gap_ms, 0.5);
  for (const auto& [name, values] : samples.state_ms) {
    const std::string lower = absl::AsciiStrToLower(name);
    counters[lower + "_ms"] = Percentile(values, 0.5);
    if (name != "STAGING" && name != "SERVING") {
      counters[lower + "_share"] = Percentile(values, 0.5) / server_gap;
    }
  }
  counters["reloads"] = static_cast<double>(samples.gap_ms.size());
  counters["answered"] = static_cast<double>(client.answered());
  counters["failed"] = static_cast<double>(client.failed());
  state.SetIterationTime(counters["gap_p50_ms"] / 1e3);
  return "";
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("machine", MachineName());
  bool failed = false;
  for (const Row& row : kRows) {
    benchmark::RegisterBenchmark(absl::StrCat("Reload/", row.bytes).c_str(),
                                 [&row, &failed](benchmark::State& state) {
                                   for (auto _ : state) {
                                     const std::string error = Measure(row, state);
                                     if (error.empty()) continue;
                                     failed = true;
                                     state.SkipWithError(error.c_str());
                                   }
                                 })
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
  }
  PlainNames reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::Main(argc, argv); }

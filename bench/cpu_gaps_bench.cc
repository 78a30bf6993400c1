// What the machine takes by itself: a thread that only reads the time-stamp counter, on each CPU in
// turn for a second, and the gaps between two readings that are longer than half a microsecond.
//
//   CpuGaps/<cpu>   gaps_per_s, p50_ns, p99_ns and max_ns of the gaps, share (of all time)
//
// No benchmark's tail is shorter than this: one round in `1e9 / (gaps_per_s * its own time in ns)`
// meets a gap, on either of its two CPUs.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "bench/latency_samples.h"
#include "bench/machine_name.h"
#include "bench/ping_pong.h"

namespace baton::bench {
namespace {

constexpr double kGapNs = 500;

void CpuGaps(benchmark::State& state) {
  if (!PinThisThread(static_cast<int>(state.range(0)))) {
    state.SkipWithError("cannot run on this CPU");
    return;
  }
  const auto gap = static_cast<uint64_t>(kGapNs / NsPerTick());
  const auto second = static_cast<uint64_t>(1e9 / NsPerTick());
  LatencySamples gaps(/*reserve=*/1'000'000);
  uint64_t taken = 0;
  const uint64_t begin = Ticks();
  uint64_t last = begin;
  while (last - begin < second) {
    const uint64_t now = Ticks();
    if (now - last >= gap) {
      gaps.Add(now - last);
      taken += now - last;
    }
    last = now;
  }
  for (auto _ : state) state.SetIterationTime(gaps.PercentileNs(0.5) * 1e-9);
  state.counters["gaps_per_s"] = static_cast<double>(gaps.size());
  state.counters["share"] = static_cast<double>(taken) / static_cast<double>(last - begin);
  gaps.Report(state);
}

int Main(int argc, char** argv) {
  benchmark::AddCustomContext("machine", MachineName());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const auto cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  benchmark::RegisterBenchmark("CpuGaps", CpuGaps)
      ->DenseRange(0, cpus - 1)
      ->UseManualTime()
      ->Iterations(1);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::Main(argc, argv); }

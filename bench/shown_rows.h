// What the mains of benches share that measure all rows in one run: who runs where, and how
// Google Benchmark shows what was measured.
#ifndef BATON_BENCH_SHOWN_ROWS_H_
#define BATON_BENCH_SHOWN_ROWS_H_

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace baton::bench {

// UNAVAILABLE where front and worker would share a CPU: nothing to measure.
absl::Status NeedTwoCpus();

// Pins this thread, the front's. After its channels are open: one that is made by a thread with a
// single CPU never spins.
void BecomeTheFront(int cpu);

// Shows those of `names` that --benchmark_filter asks for, one iteration of manual time each, as
// `show` reports them: time and counters. Returns the program's exit code.
int ShowRows(const std::vector<std::string>& names,
             const std::function<void(benchmark::State&, const std::string& name)>& show);

// Says on stderr why `program` cannot go on, and returns its exit code.
int GiveUp(const char* program, const absl::Status& why);

}  // namespace baton::bench

#endif  // BATON_BENCH_SHOWN_ROWS_H_

// `WakeLatency/<spin_us>`: how late a front notices an answer that it had to wait
// for, and what CPU time its waiting takes: what a spin budget buys.
#ifndef BATON_BENCH_WAKE_LATENCY_H_
#define BATON_BENCH_WAKE_LATENCY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "bench/null_server.h"
#include "bench/subject.h"

namespace baton::bench {

// Calls whose model keeps its CPU for 100 us each, of a channel whose
// ChannelOptions::max_spin is `spin`. Latencies are from the end of the model's pause to
// the end of Call. Figures: `cpu_share`, of one CPU, that the calling thread took
// meanwhile; `pause_us`.
absl::StatusOr<std::unique_ptr<Subject>> MakeWakeLatency(NullServer& server, absl::Duration spin);

}  // namespace baton::bench

#endif  // BATON_BENCH_WAKE_LATENCY_H_

// What a server and a front cost that have nothing to do.
#ifndef BATON_BENCH_IDLE_CPU_H_
#define BATON_BENCH_IDLE_CPU_H_

#include <memory>

#include "absl/status/statusor.h"

#include "bench/null_server.h"
#include "bench/subject.h"

namespace baton::bench {

// Sleeps, with `channels` open, and looks what that took: the figures
// `server_cpu_share` (supervisor, worker and the processes that help them) and
// `front_cpu_share` (this process), of one CPU. As the scheduler counts it, in
// nanoseconds. UNIMPLEMENTED where it does not (/proc/PID/task/TID/schedstat).
absl::StatusOr<std::unique_ptr<Subject>> MakeIdleCpu(NullServer& server, int channels);

}  // namespace baton::bench

#endif  // BATON_BENCH_IDLE_CPU_H_

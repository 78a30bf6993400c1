// Baton itself, as it is measured: a front in this process and the latency
// model (latency_model.cc) in a worker that runs on another CPU.
//
// Every function starts what it measures; the server, or the front, has to
// outlive it.
#ifndef BATON_BENCH_BATON_SUBJECTS_H_
#define BATON_BENCH_BATON_SUBJECTS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

#include "baton/front.h"
#include "bench/null_server.h"
#include "bench/payload.h"
#include "bench/subject.h"

namespace baton::bench {

// Loan, (write,) describe, submit, take, (read,) answer, read the answer,
// release: one at a time. The front never sleeps (ChannelOptions::busy_poll); the
// worker spins for as long as it has learned that it pays.
absl::StatusOr<std::unique_ptr<Subject>> MakeRoundTrip(NullServer& server, uint64_t bytes,
                                                       PayloadMode mode);

// The same of a bound request: (write,) submit, take, (read,) answer, read the answer.
absl::StatusOr<std::unique_ptr<Subject>> MakeBound(NullServer& server, uint64_t bytes,
                                                   PayloadMode mode);

// The same with 64 bytes, where the worker sleeps when it comes and the front
// sleeps until the answer.
absl::StatusOr<std::unique_ptr<Subject>> MakeRoundTripSleeping(NullServer& server);

// As many requests of 64 bytes in flight on each of `channels` channels, all of
// one thread. Latencies are from Submit to the Poll that gives the answer.
absl::StatusOr<std::unique_ptr<Subject>> MakePipelined(Front& front, int channels,
                                                       int in_flight_on_each);

// Round trips of 64 bytes on one channel while `idle` others are open.
absl::StatusOr<std::unique_ptr<Subject>> MakeBusyAmongIdle(NullServer& server, int idle);

}  // namespace baton::bench

#endif  // BATON_BENCH_BATON_SUBJECTS_H_

// `FutexWake`: two processes that sleep on futex words in shared memory and wake
// each other, and do nothing else. A round trip is two wakes; before each the
// other end is seen asleep.
#ifndef BATON_BENCH_PEERS_FUTEX_WAKE_H_
#define BATON_BENCH_PEERS_FUTEX_WAKE_H_

#include <memory>

#include "absl/status/statusor.h"

#include "bench/peers/peer.h"
#include "bench/subject.h"

namespace baton::bench {

// Only its other end: it is measured by a Subject of its own.
PeerKind FutexWakeKind();
absl::StatusOr<std::unique_ptr<Subject>> MakeFutexWake(int cpu);

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_FUTEX_WAKE_H_

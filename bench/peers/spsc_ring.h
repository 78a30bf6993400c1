// `SpscRing`: a bare ring of 64-byte entries in shared memory, from one process
// to another: what a submission ring costs without what Baton does besides.
// One operation is an entry; its latencies are those of 32 entries in a row.
#ifndef BATON_BENCH_PEERS_SPSC_RING_H_
#define BATON_BENCH_PEERS_SPSC_RING_H_

#include <memory>

#include "absl/status/statusor.h"

#include "bench/peers/peer.h"
#include "bench/subject.h"

namespace baton::bench {

// Only its other end, which takes: it is measured by a Subject of its own.
PeerKind SpscRingKind();
absl::StatusOr<std::unique_ptr<Subject>> MakeSpscRing(int cpu);

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_SPSC_RING_H_

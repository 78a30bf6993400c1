// `WriteRead`: a payload written and read where both processes map it, and two
// cache lines that say when. No runtime, no ring, no descriptor, no copy: what
// nobody who produces and consumes the bytes does without.
#ifndef BATON_BENCH_PEERS_BARE_MEMORY_H_
#define BATON_BENCH_PEERS_BARE_MEMORY_H_

#include "bench/peers/peer.h"

namespace baton::bench {

PeerKind BareMemoryKind();

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_BARE_MEMORY_H_

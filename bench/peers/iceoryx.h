// `Iceoryx`: request and response of iceoryx 2, polled on both sides. It lends
// its memory as Baton does: nothing is copied.
//
// Its daemon runs as a process of this program's own, with memory for payloads
// of every size that is measured where /dev/shm has the room. Only one can run
// on a machine.
#ifndef BATON_BENCH_PEERS_ICEORYX_H_
#define BATON_BENCH_PEERS_ICEORYX_H_

#include "bench/peers/peer.h"

namespace baton::bench {

PeerKind IceoryxKind();
// The daemon. It has no rows.
PeerKind RouDiKind();

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_ICEORYX_H_

// `ZeroMq`: a REQ and a REP socket over ipc (an abstract Unix socket), blocking.
// A payload is handed to it without a copy; on its way the kernel copies it in
// and out.
#ifndef BATON_BENCH_PEERS_ZERO_MQ_H_
#define BATON_BENCH_PEERS_ZERO_MQ_H_

#include "bench/peers/peer.h"

namespace baton::bench {

PeerKind ZeroMqKind();

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_ZERO_MQ_H_

// `UnixSocket`: a pair of stream sockets, with read and write that block. The
// kernel copies a payload in and out.
#ifndef BATON_BENCH_PEERS_UNIX_SOCKET_H_
#define BATON_BENCH_PEERS_UNIX_SOCKET_H_

#include "bench/peers/peer.h"

namespace baton::bench {

PeerKind UnixSocketKind();

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_UNIX_SOCKET_H_

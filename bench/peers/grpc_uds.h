// `GrpcUds`: unary calls of gRPC over an abstract Unix socket, with the
// synchronous API, and bytes as they are instead of a protobuf message: no
// serialisation is measured. A payload is handed to it without a copy.
#ifndef BATON_BENCH_PEERS_GRPC_UDS_H_
#define BATON_BENCH_PEERS_GRPC_UDS_H_

#include "bench/peers/peer.h"

namespace baton::bench {

PeerKind GrpcUdsKind();

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_GRPC_UDS_H_

#include "bench/peers/peer_kinds.h"

#include "bench/front_processes.h"
#include "bench/peers/bare_memory.h"
#include "bench/peers/boost_queue.h"
#include "bench/peers/futex_wake.h"
#include "bench/peers/spsc_ring.h"
#include "bench/peers/unix_socket.h"
#ifdef BATON_BENCH_GRPC
#include "bench/peers/grpc_uds.h"
#endif
#ifdef BATON_BENCH_ICEORYX
#include "bench/peers/iceoryx.h"
#endif
#ifdef BATON_BENCH_ZEROMQ
#include "bench/peers/zero_mq.h"
#endif

namespace baton::bench {

const std::vector<PeerKind>& PeerKinds() {
  static const auto* const kinds =
      new std::vector<PeerKind>{BareMemoryKind(), BoostQueueKind(), BoostQueueBlockingKind(),
#ifdef BATON_BENCH_ICEORYX
                                IceoryxKind(),    RouDiKind(),
#endif
#ifdef BATON_BENCH_GRPC
                                GrpcUdsKind(),
#endif
                                UnixSocketKind(),
#ifdef BATON_BENCH_ZEROMQ
                                ZeroMqKind(),
#endif
                                FutexWakeKind(),  SpscRingKind(),   FrontProcessKind()};
  return *kinds;
}

const PeerKind* FindPeerKind(const std::string& name) {
  for (const PeerKind& kind : PeerKinds()) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

std::vector<std::string> PeersLeftOut() {
  std::vector<std::string> names;
#ifndef BATON_BENCH_ICEORYX
  names.push_back("Iceoryx (libiceoryx-posh-dev, libacl1-dev)");
#endif
#ifndef BATON_BENCH_GRPC
  names.push_back("GrpcUds (libgrpc++-dev)");
#endif
#ifndef BATON_BENCH_ZEROMQ
  names.push_back("ZeroMq (libzmq3-dev)");
#endif
  return names;
}

}  // namespace baton::bench

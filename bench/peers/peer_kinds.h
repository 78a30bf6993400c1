// The peers that were built in.
#ifndef BATON_BENCH_PEERS_PEER_KINDS_H_
#define BATON_BENCH_PEERS_PEER_KINDS_H_

#include <string>
#include <vector>

#include "bench/peers/peer.h"

namespace baton::bench {

const std::vector<PeerKind>& PeerKinds();
// Null: there is none of that name.
const PeerKind* FindPeerKind(const std::string& name);
// The names of peers whose packages were not there when this was configured, and
// the packages: "Iceoryx (libiceoryx-posh-dev)".
std::vector<std::string> PeersLeftOut();

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_PEER_KINDS_H_

// `BoostMessageQueue`: two queues of Boost.Interprocess, one for payloads and one
// for answers, each with room for one message. It copies a payload in and out.
#ifndef BATON_BENCH_PEERS_BOOST_QUEUE_H_
#define BATON_BENCH_PEERS_BOOST_QUEUE_H_

#include "bench/peers/peer.h"

namespace baton::bench {

// Both sides poll, with try_send and try_receive.
PeerKind BoostQueueKind();
// Both sides sleep.
PeerKind BoostQueueBlockingKind();

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_BOOST_QUEUE_H_

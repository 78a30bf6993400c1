// A transport that Baton is compared with: this process sends a payload, a
// process of its own receives it and answers with 8 bytes.
//
// Every peer is measured by the same code. With PayloadMode::kProduced a
// transport that lends its memory has the payload written there; with another
// one it is written into memory of the sender's own, and the transport's copies
// come on top. The answer is the sum of what was read, and is checked.
#ifndef BATON_BENCH_PEERS_PEER_H_
#define BATON_BENCH_PEERS_PEER_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "bench/payload.h"

namespace baton::bench {

class EndSide;

struct PeerSetup {
  uint64_t bytes = 64;
  PayloadMode mode = PayloadMode::kInPlace;
  std::string rendezvous = {};  // nobody else's on this machine: for names of sockets and queues

  bool produced() const { return mode == PayloadMode::kProduced; }
};

// Thread safety: belongs to the thread that started it, which must live as long
// as it. Its other end, and whatever has a name, go with it.
class Peer {
 public:
  virtual ~Peer() = default;
  // Around a slice of round trips. Outside of them the other end sleeps.
  virtual void Resume() = 0;
  virtual void Pause() = 0;
  // Sends the payload, written with `seed` where it is produced, and waits for
  // the answer. DATA_LOSS where that is wrong, UNAVAILABLE where the other end
  // has gone.
  virtual absl::Status RoundTrip(uint64_t seed) = 0;
};

struct PeerKind {
  std::string name;  // the first part of its rows' names
  // Starts the other end on `cpu`. Null: no rows, a process that others need.
  absl::StatusOr<std::unique_ptr<Peer>> (*start)(const PeerSetup& setup, int cpu) = nullptr;
  // The other end: what its process does until it is killed, or told to stop.
  absl::Status (*serve)(EndSide& side) = nullptr;
  // The largest payload that it is measured with, and why.
  uint64_t most_bytes = std::numeric_limits<uint64_t>::max();
  std::string limit = {};
};

// OK, or DATA_LOSS: `sum` is not what `bytes` written with `seed` add up to.
absl::Status CheckSum(const PeerSetup& setup, uint64_t seed, uint64_t sum);

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_PEER_H_

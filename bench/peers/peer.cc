#include "bench/peers/peer.h"

namespace baton::bench {

absl::Status CheckSum(const PeerSetup& setup, uint64_t seed, uint64_t sum) {
  if (!setup.produced() || sum == ExpectedSum(setup.bytes, seed)) return absl::OkStatus();
  return absl::DataLossError("what was read is not what was written");
}

}  // namespace baton::bench

// What a service in a soak has seen: in a file that it shares with the test.
#ifndef BATON_TESTS_STRESS_SOAK_FRONT_H_
#define BATON_TESTS_STRESS_SOAK_FRONT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace baton::testing {

inline constexpr size_t kSoakChannels = 2;  // of one service, a thread each
inline constexpr size_t kMaxSoakGenerations = 8192;
// The rotated secret is this and a number.
inline constexpr char kSoakValue[] = "soak-value-";

struct SoakChannelTally {
  std::atomic<uint64_t> submitted;
  std::atomic<uint64_t> answered;    // the payload it was sent, its turn, a value that fits
  std::atomic<uint64_t> failed;      // any error
  std::atomic<uint64_t> lost;        // no outcome, long after its deadline
  std::atomic<uint64_t> duplicated;  // an outcome of no request that is outstanding
  std::atomic<uint64_t> wrong;       // another payload, or two values in one generation
  std::atomic<uint64_t> reordered;
  std::atomic<uint64_t> went_back;  // a generation before the one that has answered already
  std::atomic<uint64_t> last_generation;
  // By generation: the number of the secret that it answered with, and the time between the last
  // answer of the one before and its first. 0: it answered nothing here.
  std::atomic<uint32_t> value[kMaxSoakGenerations];
  std::atomic<uint64_t> gap_ns[kMaxSoakGenerations];
};

struct SoakTally {
  std::atomic<uint32_t> attached;  // channels that are open
  std::atomic<uint32_t> stop;
  std::atomic<uint32_t> leaked_blocks;  // channels whose arenas did not come back
  char first_error[512];                // written once, by whoever wins `has_error`
  std::atomic<uint32_t> has_error;
  SoakChannelTally channels[kSoakChannels];
};

}  // namespace baton::testing

#endif  // BATON_TESTS_STRESS_SOAK_FRONT_H_

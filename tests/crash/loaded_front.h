// What a front under load has seen: in a file that it shares with the test, so that it survives the
// front's SIGKILL.
#ifndef BATON_TESTS_CRASH_LOADED_FRONT_H_
#define BATON_TESTS_CRASH_LOADED_FRONT_H_

#include <atomic>
#include <cstdint>

namespace baton::testing {

struct FrontTally {
  std::atomic<uint64_t> submitted;
  std::atomic<uint64_t> answered;     // right payload, known ticket
  std::atomic<uint64_t> aborted;      // started, and its worker died
  std::atomic<uint64_t> unavailable;  // not started, and its server went
  std::atomic<uint64_t> expired;      // its own deadline passed
  std::atomic<uint64_t> other;        // any other error
  std::atomic<uint64_t> wrong;        // duplicated, lost, wrong payload or generation going back
  std::atomic<uint64_t> last_generation;
  std::atomic<uint32_t> attached;
  std::atomic<uint32_t> stop;           // the test asks it to finish what is outstanding and leave
  std::atomic<uint32_t> leaked_blocks;  // set at the end: arena bytes that did not come back
  std::atomic<uint32_t> finished;

  // Requests that have ended, each counted once.
  uint64_t ended() const {
    return answered.load() + aborted.load() + unavailable.load() + expired.load() + other.load();
  }
};

}  // namespace baton::testing

#endif  // BATON_TESTS_CRASH_LOADED_FRONT_H_

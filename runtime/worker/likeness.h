// Numbers for what looks alike, so that it is compared once: two things with the same number are
// the same in all that the number was given for.
//
// Thread safety: may be called on any thread.
#ifndef BATON_RUNTIME_WORKER_LIKENESS_H_
#define BATON_RUNTIME_WORKER_LIKENESS_H_

#include <atomic>
#include <cstdint>

namespace baton::runtime {

// 0 is never given: it says that nothing is known.
using Likeness = uint64_t;

// One that nobody in this process was given before.
inline Likeness NewLikeness() {
  static std::atomic<Likeness> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_LIKENESS_H_

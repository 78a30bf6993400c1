// Counters of the worker page.
#ifndef BATON_RUNTIME_WORKER_PAGE_COUNTER_H_
#define BATON_RUNTIME_WORKER_PAGE_COUNTER_H_

#include <atomic>
#include <cstdint>

namespace baton::runtime {

// One writer, the serving thread: no read-modify-write needed. Relaxed: a statistic.
inline void BumpBy(std::atomic<uint64_t>& counter, uint64_t by) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}
inline void Bump(std::atomic<uint64_t>& counter) { BumpBy(counter, 1); }

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_PAGE_COUNTER_H_

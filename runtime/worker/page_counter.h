// Counters of the worker page.
#ifndef BATON_RUNTIME_WORKER_PAGE_COUNTER_H_
#define BATON_RUNTIME_WORKER_PAGE_COUNTER_H_

#include <atomic>
#include <cstdint>

namespace baton::runtime {

// One writer, the serving thread: no read-modify-write needed. Relaxed: a statistic.
inline void Bump(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_PAGE_COUNTER_H_

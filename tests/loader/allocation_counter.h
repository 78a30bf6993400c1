// Counts heap allocations of the calling thread.
#ifndef BATON_TESTS_LOADER_ALLOCATION_COUNTER_H_
#define BATON_TESTS_LOADER_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace baton::loader {

// Calls of operator new by this thread so far. Only in tests that compile
// allocation_counter.cc in, which replaces the global operators.
uint64_t AllocationsOfThisThread();

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_ALLOCATION_COUNTER_H_

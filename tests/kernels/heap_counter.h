// Counts every piece of memory that this program asks for.
#ifndef BATON_TESTS_KERNELS_HEAP_COUNTER_H_
#define BATON_TESTS_KERNELS_HEAP_COUNTER_H_

#include <cstdint>

namespace baton::testing {

// Calls of malloc and its like (operator new ends in them), and of mmap, by all threads
// and libraries so far. Only in tests that compile heap_counter.cc in, which replaces
// those; and not with sanitizers, which do as well.
uint64_t HeapCalls();

}  // namespace baton::testing

#endif  // BATON_TESTS_KERNELS_HEAP_COUNTER_H_

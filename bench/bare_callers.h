// The batches of DigitsCallers without a runtime: what is left to win for one.
//
// A caller is a flag, an image and ten scores in memory that two threads share; the other thread
// looks at all flags in turn, copies the images of those that ask into one batch, computes layers
// of the digits model's sizes with the same kernels, and gives each caller its scores and its
// flag. No ring, no descriptor, no process boundary, no look at what a caller says, no deadline,
// no cancellation, no sleep, no answer to a death.
#ifndef BATON_BENCH_BARE_CALLERS_H_
#define BATON_BENCH_BARE_CALLERS_H_

#include <cstddef>
#include <memory>

#include "bench/subject.h"

namespace baton::bench {

// `worker_cpu`: of the other thread, which sleeps while the subject does not run. A call of the
// layers takes `max_batch` images at most, and begins, as a batch of Baton's does, when there are
// so many or nobody else has asked in a whole round. The figure service_us is the time in the
// layers of one call, the median over calls.
std::unique_ptr<Subject> StartBareCallers(size_t callers, size_t max_batch, int worker_cpu);

}  // namespace baton::bench

#endif  // BATON_BENCH_BARE_CALLERS_H_

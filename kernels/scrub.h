// Overwriting memory that held a model or a request, before somebody else gets
// it.
//
// Thread safety: pure; touches only what it is given.
#ifndef BATON_KERNELS_SCRUB_H_
#define BATON_KERNELS_SCRUB_H_

#include <cstddef>
#include <span>

namespace baton::kernels {

// Zeros, which the compiler may not leave out although nothing reads them.
// Cost: one pass of writes.
void Scrub(std::span<std::byte> bytes);

}  // namespace baton::kernels

#endif  // BATON_KERNELS_SCRUB_H_

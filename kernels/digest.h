// A 64-bit digest of bytes, to find an upload that went wrong. Not
// cryptographic: who wants a collision can make one.
//
// The bytes are read as little-endian words of 8, the last one filled up with
// zeros; digest = the sum over all words of DigestMix(word, index), plus
// DigestEnd(length), modulo 2^64. A sum has no order, so any number of threads,
// or of pieces, give the same answer.
//
// Thread safety: pure functions that allocate nothing.
#ifndef BATON_KERNELS_DIGEST_H_
#define BATON_KERNELS_DIGEST_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/digest_mix.h"

namespace baton::kernels {

// Cost: one pass; a few GB/s.
uint64_t Digest(std::span<const std::byte> bytes);

// The same in pieces: Digest of the whole = the sum of DigestPart over its
// pieces + DigestEnd(length of the whole). `offset` is where the piece begins, a
// multiple of 8; only the last piece may have a length that is none.
uint64_t DigestPart(std::span<const std::byte> piece, uint64_t offset);

}  // namespace baton::kernels

#endif  // BATON_KERNELS_DIGEST_H_

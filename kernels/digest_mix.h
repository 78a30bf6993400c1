// How a digest takes in one word. C++17; device code reads it too.
//
// Thread safety: pure functions.
#ifndef BATON_KERNELS_DIGEST_MIX_H_
#define BATON_KERNELS_DIGEST_MIX_H_

#include <cstdint>

namespace baton::kernels {

inline constexpr uint64_t kDigestWordBytes = 8;

// What the word at `index` adds to the digest. For one index it is a bijection
// of the word: changing a single word always changes the digest.
constexpr uint64_t DigestMix(uint64_t word, uint64_t index) {
  // An odd step, so that no two indices shift a word alike; then the shifts and
  // multiplications of splitmix64, after which each bit depends on all.
  uint64_t x = word + (index + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// What the length adds, so that zero bytes at the end count.
constexpr uint64_t DigestEnd(uint64_t bytes) { return DigestMix(bytes, ~uint64_t{0}); }

}  // namespace baton::kernels

#endif  // BATON_KERNELS_DIGEST_MIX_H_

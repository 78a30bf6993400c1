#include "kernels/digest.h"

#include <bit>
#include <cstring>

namespace baton::kernels {

static_assert(std::endian::native == std::endian::little, "words are loaded as they lie in memory");

uint64_t DigestPart(std::span<const std::byte> piece, uint64_t offset) {
  const uint64_t first = offset / kDigestWordBytes;
  const size_t words = piece.size() / kDigestWordBytes;
  uint64_t sum = 0;
  for (size_t i = 0; i < words; ++i) {
    uint64_t word;
    std::memcpy(&word, piece.data() + i * kDigestWordBytes, kDigestWordBytes);
    sum += DigestMix(word, first + i);
  }
  if (const size_t tail = piece.size() % kDigestWordBytes; tail != 0) {
    uint64_t word = 0;
    std::memcpy(&word, piece.data() + words * kDigestWordBytes, tail);
    sum += DigestMix(word, first + words);
  }
  return sum;
}

uint64_t Digest(std::span<const std::byte> bytes) {
  return DigestPart(bytes, 0) + DigestEnd(bytes.size());
}

}  // namespace baton::kernels

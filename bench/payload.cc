#include "bench/payload.h"

#include <cstring>

namespace baton::bench {

std::string ToString(PayloadMode mode) {
  return mode == PayloadMode::kInPlace ? "in_place" : "produced";
}

void WritePayload(std::span<std::byte> payload, uint64_t seed) {
  auto* const words = reinterpret_cast<uint64_t*>(payload.data());
  const size_t count = payload.size() / sizeof(uint64_t);
  for (size_t i = 0; i < count; ++i) words[i] = seed;
}

uint64_t ReadPayload(std::span<const std::byte> payload) {
  const size_t count = payload.size() / sizeof(uint64_t);
  uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    uint64_t word;
    std::memcpy(&word, payload.data() + i * sizeof(word), sizeof(word));
    sum += word;
  }
  return sum;
}

}  // namespace baton::bench

// The bytes that a request carries, and what is done with them. One code for
// every transport, in the harness, in the other ends and in the model.
#ifndef BATON_BENCH_PAYLOAD_H_
#define BATON_BENCH_PAYLOAD_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace baton::bench {

enum class PayloadMode {
  // It lies already where the sender has it: in the transport's memory where it
  // gives such, else in memory of the sender's own. Nobody reads it.
  kInPlace,
  // Every byte is written by the sender and read by the receiver, once.
  kProduced,
};
// "in_place", "produced": the last part of a row's name.
std::string ToString(PayloadMode mode);

// All sizes are multiples of 8 bytes.

// Writes every byte; `payload` is aligned to 8. Another `seed` gives another payload.
void WritePayload(std::span<std::byte> payload, uint64_t seed);
// Reads every byte: the sum of its 64-bit words, modulo 2^64. Adds up over parts,
// which may lie anywhere.
uint64_t ReadPayload(std::span<const std::byte> payload);
// What ReadPayload gives for `bytes` written with `seed`.
inline uint64_t ExpectedSum(uint64_t bytes, uint64_t seed) { return bytes / 8 * seed; }

}  // namespace baton::bench

#endif  // BATON_BENCH_PAYLOAD_H_

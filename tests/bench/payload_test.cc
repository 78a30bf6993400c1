#include "bench/payload.h"

#include <gtest/gtest.h>

#include <vector>

namespace baton::bench {
namespace {

TEST(PayloadTest, WhatIsReadIsWhatWasWritten) {
  std::vector<std::byte> payload(4096);
  for (const uint64_t seed : {uint64_t{1}, uint64_t{0xfedcba9876543210}}) {
    WritePayload(payload, seed);
    EXPECT_EQ(ReadPayload(payload), ExpectedSum(payload.size(), seed));
  }
}

TEST(PayloadTest, EveryWordCounts) {
  std::vector<std::byte> payload(256);
  WritePayload(payload, 3);
  for (size_t at = 0; at < payload.size(); at += 8) {
    payload[at] = std::byte{4};
    EXPECT_EQ(ReadPayload(payload), ExpectedSum(payload.size(), 3) + 1) << at;
    payload[at] = std::byte{3};
  }
}

// As gRPC gives a message: in parts that begin anywhere.
TEST(PayloadTest, PartsThatAreNotAlignedAddUp) {
  std::vector<std::byte> payload(128 + 1);
  const std::span<std::byte> shifted = std::span(payload).subspan(1);
  for (size_t at = 0; at < shifted.size(); at += 8) shifted[at] = std::byte{9};
  EXPECT_EQ(ReadPayload(shifted.first(40)) + ReadPayload(shifted.subspan(40)),
            ExpectedSum(shifted.size(), 9));
}

}  // namespace
}  // namespace baton::bench

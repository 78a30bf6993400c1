#include "kernels/digest.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace baton::kernels {
namespace {

std::vector<std::byte> Random(size_t count) {
  std::mt19937 engine(static_cast<uint32_t>(count) + 1);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(engine());
  return bytes;
}

uint64_t DigestOf(std::string_view text) { return Digest(std::as_bytes(std::span(text))); }

// Worked out with another program: digests of one build are compared with those
// of another.
TEST(DigestTest, KnownValues) {
  EXPECT_EQ(DigestOf(""), 0u);
  EXPECT_EQ(DigestOf(std::string_view("\0", 1)), 0x38b2be568b28d394u);
  EXPECT_EQ(DigestOf("baton"), 0x082870e43f01c633u);
  EXPECT_EQ(DigestOf("baton: zero-copy serving"), 0x55faff93afe2a87au);
}

TEST(DigestTest, AnyFlippedBitChangesIt) {
  for (const size_t bytes : {1, 7, 8, 9, 16, 61, 256}) {
    auto data = Random(bytes);
    const uint64_t digest = Digest(data);
    for (size_t bit = 0; bit < bytes * 8; ++bit) {
      data[bit / 8] ^= std::byte{1} << (bit % 8);
      ASSERT_NE(Digest(data), digest) << bytes << " bytes, bit " << bit;
      data[bit / 8] ^= std::byte{1} << (bit % 8);
    }
  }
}

TEST(DigestTest, AnyTwoWordsSwappedChangeIt) {
  auto data = Random(32 * kDigestWordBytes);
  const uint64_t digest = Digest(data);
  const auto swap = [&](size_t a, size_t b) {
    std::swap_ranges(data.begin() + a * 8, data.begin() + a * 8 + 8, data.begin() + b * 8);
  };
  for (size_t a = 0; a < 32; ++a) {
    for (size_t b = a + 1; b < 32; ++b) {
      swap(a, b);
      ASSERT_NE(Digest(data), digest) << a << "," << b;
      swap(a, b);
    }
  }
}

TEST(DigestTest, TheLengthCountsEvenOfZeros) {
  const std::vector<std::byte> zeros(1000);
  std::set<uint64_t> digests;
  for (size_t bytes = 0; bytes <= zeros.size(); ++bytes) {
    digests.insert(Digest(std::span(zeros).first(bytes)));
  }
  EXPECT_EQ(digests.size(), zeros.size() + 1);
}

// What goes wrong in an upload: a stretch lies elsewhere, twice, or not at all.
TEST(DigestTest, ShiftedRepeatedAndMissingStretchesChangeIt) {
  const auto data = Random(4096);
  const uint64_t digest = Digest(data);
  std::set<uint64_t> digests = {digest};
  for (size_t shift = 1; shift < 256; ++shift) {
    auto rotated = data;
    std::rotate(rotated.begin(), rotated.begin() + shift, rotated.end());
    digests.insert(Digest(rotated));
  }
  EXPECT_EQ(digests.size(), 256u);
  auto repeated = data;
  std::copy_n(repeated.begin(), 1024, repeated.begin() + 1024);
  EXPECT_NE(Digest(repeated), digest);
  auto missing = data;
  std::fill_n(missing.begin() + 2048, 1024, std::byte{0});
  EXPECT_NE(Digest(missing), digest);
}

TEST(DigestTest, PiecesAddUp) {
  const auto data = Random(1003);
  for (const size_t piece : {8, 64, 104, 1000}) {
    uint64_t sum = DigestEnd(data.size());
    for (size_t at = 0; at < data.size(); at += piece) {
      sum += DigestPart(std::span(data).subspan(at, std::min(piece, data.size() - at)), at);
    }
    EXPECT_EQ(sum, Digest(data)) << piece;
  }
}

TEST(DigestTest, DoesNotDependOnTheAddress) {
  const auto data = Random(203);
  std::vector<std::byte> room(data.size() + 8);
  for (size_t offset = 0; offset < 8; ++offset) {
    std::memcpy(room.data() + offset, data.data(), data.size());
    EXPECT_EQ(Digest(std::span(room).subspan(offset, data.size())), Digest(data));
  }
}

}  // namespace
}  // namespace baton::kernels

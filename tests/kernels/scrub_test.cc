#include "kernels/scrub.h"

#include <vector>

#include "gtest/gtest.h"

namespace baton::kernels {
namespace {

TEST(ScrubTest, ZerosAllOfItAndNothingElse) {
  for (const size_t bytes : {0, 1, 15, 4097}) {
    std::vector<std::byte> memory(bytes + 2, std::byte{0xAB});
    Scrub(std::span(memory).subspan(1, bytes));
    EXPECT_EQ(memory.front(), std::byte{0xAB});
    EXPECT_EQ(memory.back(), std::byte{0xAB});
    for (size_t i = 1; i <= bytes; ++i) ASSERT_EQ(memory[i], std::byte{0}) << i;
  }
  Scrub({});
}

}  // namespace
}  // namespace baton::kernels

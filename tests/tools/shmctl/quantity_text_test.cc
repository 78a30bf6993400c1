#include "tools/shmctl/quantity_text.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace baton::shmctl {
namespace {

TEST(QuantityTextTest, Durations) {
  EXPECT_EQ(DurationText(0), "0 ns");
  EXPECT_EQ(DurationText(999), "999 ns");
  EXPECT_EQ(DurationText(1'000), "1.00 us");
  EXPECT_EQ(DurationText(200'000), "200 us");
  EXPECT_EQ(DurationText(999'499), "999 us");
  EXPECT_EQ(DurationText(999'500), "1.00 ms");
  EXPECT_EQ(DurationText(9'996'000), "10.0 ms");
  EXPECT_EQ(DurationText(99'960'000), "100 ms");
  EXPECT_EQ(DurationText(300'000'000), "300 ms");
  EXPECT_EQ(DurationText(1'500'000'000), "1.50 s");
  EXPECT_EQ(DurationText(119'900'000'000), "120 s");
  EXPECT_EQ(DurationText(123'000'000'000), "2m03s");
  EXPECT_EQ(DurationText(3'720'000'000'000), "1h02m");
  EXPECT_EQ(DurationText(std::numeric_limits<uint64_t>::max()), "5124095h34m");
}

TEST(QuantityTextTest, Sizes) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(9'999), "9999 B");
  EXPECT_EQ(BytesText(10'240), "10.0 KiB");
  EXPECT_EQ(BytesText(1'048'575), "1.00 MiB");
  EXPECT_EQ(BytesText(uint64_t{24} << 30), "24.0 GiB");
  EXPECT_EQ(BytesText(uint64_t{2} << 50), "2048 TiB");
}

}  // namespace
}  // namespace baton::shmctl

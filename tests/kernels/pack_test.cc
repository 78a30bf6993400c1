#include "kernels/pack.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace baton::kernels {
namespace {

// Rows of the blocks; bytes of a row.
struct Shape {
  std::vector<size_t> rows;
  size_t row_bytes;
};

class PackShape : public ::testing::TestWithParam<Shape> {
 protected:
  // Each byte of the batch has its own value, as far as a byte goes.
  static std::byte ByteAt(size_t position) {
    return static_cast<std::byte>(position * 7 + position / 256 + 1);
  }
};

TEST_P(PackShape, RowsLieOneAfterAnother) {
  const auto& [rows, row_bytes] = GetParam();
  std::vector<std::vector<std::byte>> parts;
  std::vector<RowBlock> blocks;
  size_t total = 0;
  for (const size_t count : rows) {
    std::vector<std::byte>& part = parts.emplace_back(count * row_bytes);
    for (std::byte& byte : part) byte = ByteAt(total++);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    blocks.push_back({.data = parts[i].empty() ? nullptr : parts[i].data(), .rows = rows[i]});
  }
  std::vector<std::byte> batch(total + 1, std::byte{0xEE});

  Pack(blocks, row_bytes, batch.data());

  for (size_t i = 0; i < total; ++i) ASSERT_EQ(batch[i], ByteAt(i)) << i;
  EXPECT_EQ(batch[total], std::byte{0xEE}) << "wrote past the end";
}

TEST_P(PackShape, UnpackGivesEachBlockItsRows) {
  const auto& [rows, row_bytes] = GetParam();
  size_t total = 0;
  for (const size_t count : rows) total += count * row_bytes;
  std::vector<std::byte> batch(total);
  for (size_t i = 0; i < total; ++i) batch[i] = ByteAt(i);
  std::vector<std::vector<std::byte>> parts;
  for (const size_t count : rows) parts.emplace_back(count * row_bytes + 1, std::byte{0xEE});
  std::vector<MutableRowBlock> blocks;
  for (size_t i = 0; i < rows.size(); ++i) {
    blocks.push_back({.data = rows[i] == 0 ? nullptr : parts[i].data(), .rows = rows[i]});
  }

  Unpack(batch.data(), row_bytes, blocks);

  size_t position = 0;
  for (const std::vector<std::byte>& part : parts) {
    for (size_t i = 0; i + 1 < part.size(); ++i) ASSERT_EQ(part[i], ByteAt(position++));
    EXPECT_EQ(part.back(), std::byte{0xEE}) << "wrote past the end";
  }
}

INSTANTIATE_TEST_SUITE_P(Ragged, PackShape,
                         ::testing::Values(Shape{{}, 8}, Shape{{0}, 8}, Shape{{1}, 1},
                                           Shape{{3, 1, 2}, 16}, Shape{{0, 2, 0, 0, 5, 0}, 12},
                                           Shape{{7, 1, 1, 1}, 5}, Shape{{2, 3}, 0},
                                           Shape{{64, 1, 33}, 1000}));

}  // namespace
}  // namespace baton::kernels

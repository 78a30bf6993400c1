// The block allocator against a bitmap: no granule is ever loaned twice, any
// order of release is fine, and what was split comes together again.
#include "ipc/block_allocator.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace baton::ipc {
namespace {

using Block = BlockAllocator::Block;

std::optional<Block> Loan(BlockAllocator& allocator, uint32_t granules) {
  Block block{.granule = ~0u, .granules = ~0u, .node = ~0u};
  if (allocator.Allocate(granules, &block)) return block;
  EXPECT_EQ(block.granule & block.granules & block.node, ~0u) << "not as it was before";
  return std::nullopt;
}

// What the arena looks like, kept in the dullest way there is.
class Bitmap {
 public:
  explicit Bitmap(uint32_t granules) : used_(granules, false) {}
  void Take(const Block& block) {
    ASSERT_LE(uint64_t{block.granule} + block.granules, used_.size());
    for (uint32_t i = 0; i < block.granules; ++i) {
      ASSERT_FALSE(used_[block.granule + i]) << "granule " << block.granule + i << " loaned twice";
      used_[block.granule + i] = true;
    }
  }
  void Give(const Block& block) {
    for (uint32_t i = 0; i < block.granules; ++i) used_[block.granule + i] = false;
  }
  uint32_t free() const {
    return static_cast<uint32_t>(std::count(used_.begin(), used_.end(), false));
  }
  uint32_t LongestFree() const {
    uint32_t longest = 0;
    uint32_t run = 0;
    for (const bool used : used_) {
      run = used ? 0 : run + 1;
      longest = std::max(longest, run);
    }
    return longest;
  }

 private:
  std::vector<bool> used_;
};

TEST(BlockAllocator, AgreesWithABitmapThroughRandomLoansAndReturns) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const uint32_t granules = 1 + random() % 5000;
    const uint32_t max_blocks = 1 + random() % 200;
    BlockAllocator allocator(granules, max_blocks);
    Bitmap bitmap(granules);
    std::vector<Block> loaned;
    for (int step = 0; step < 4000; ++step) {
      if (loaned.empty() || random() % 5 < 3) {
        // Small, around a power of two, or anything.
        uint32_t wanted = random() % 8;
        if (random() % 4 == 0) wanted = (1u << random() % 12) + random() % 3 - 1;
        if (random() % 16 == 0) wanted = random() % (granules + 10);
        const uint32_t largest = bitmap.LongestFree();
        const std::optional<Block> block = Loan(allocator, wanted);
        wanted = std::max(wanted, 1u);
        if (block) {
          ASSERT_EQ(block->granules, wanted);
          bitmap.Take(*block);
          if (HasFatalFailure()) return;
          loaned.push_back(*block);
        } else if (loaned.size() < max_blocks) {
          ASSERT_GT(wanted, largest) << "there is room for it";
        }
      } else {
        std::swap(loaned[random() % loaned.size()], loaned.back());
        bitmap.Give(loaned.back());
        allocator.Free(loaned.back());
        loaned.pop_back();
      }
      ASSERT_EQ(allocator.free_granules(), bitmap.free());
      ASSERT_EQ(allocator.loaned_blocks(), loaned.size());
      // Not each time: it joins what is free.
      if (random() % 8 == 0) {
        ASSERT_EQ(allocator.LargestFree(), bitmap.LongestFree());
      }
      if (step % 16 == 0) {
        ASSERT_TRUE(allocator.CheckConsistency()) << "seed " << seed;
      }
    }
    for (const Block& block : loaned) allocator.Free(block);
    ASSERT_TRUE(allocator.CheckConsistency());
    ASSERT_EQ(allocator.LargestFree(), granules) << "what was split must come together again";
  }
}

TEST(BlockAllocator, TakesBackInAnyOrder) {
  std::vector<uint32_t> order(6);
  std::iota(order.begin(), order.end(), 0);
  do {
    BlockAllocator allocator(60, 6);
    std::vector<Block> blocks;
    for (uint32_t i = 0; i < 6; ++i) blocks.push_back(*Loan(allocator, 10));
    ASSERT_EQ(allocator.free_granules(), 0u);
    for (const uint32_t i : order) {
      allocator.Free(blocks[i]);
      ASSERT_TRUE(allocator.CheckConsistency());
    }
    ASSERT_EQ(allocator.LargestFree(), 60u);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(BlockAllocator, LoansTheWholeArena) {
  // 12345 lies between two size classes: rounding up alone would not find it.
  for (const uint32_t granules : {1u, 2u, 15u, 16u, 17u, 12345u, 1u << 20, (1u << 20) + 1}) {
    BlockAllocator allocator(granules, 4);
    for (int lap = 0; lap < 3; ++lap) {
      const std::optional<Block> whole = Loan(allocator, granules);
      ASSERT_TRUE(whole) << granules;
      EXPECT_EQ(whole->granule, 0u);
      EXPECT_FALSE(Loan(allocator, 1));
      allocator.Free(*whole);
      ASSERT_TRUE(allocator.CheckConsistency());
    }
    EXPECT_FALSE(Loan(allocator, granules + 1));
  }
}

TEST(BlockAllocator, HoldsItsLimitOfBlocks) {
  BlockAllocator allocator(100, 3);
  const Block first = *Loan(allocator, 1);
  ASSERT_TRUE(Loan(allocator, 1));
  ASSERT_TRUE(Loan(allocator, 1));
  EXPECT_FALSE(Loan(allocator, 1));
  EXPECT_EQ(allocator.free_granules(), 97u);
  allocator.Free(first);
  EXPECT_TRUE(Loan(allocator, 1));
  EXPECT_TRUE(allocator.CheckConsistency());
}

TEST(BlockAllocator, ZeroCountsAsOne) {
  BlockAllocator allocator(2, 2);
  EXPECT_EQ(Loan(allocator, 0)->granules, 1u);
  EXPECT_EQ(allocator.free_granules(), 1u);
}

TEST(BlockAllocator, AnEmptyArenaLoansNothing) {
  BlockAllocator allocator(0, 4);
  EXPECT_FALSE(Loan(allocator, 1));
  EXPECT_EQ(allocator.LargestFree(), 0u);
  EXPECT_TRUE(allocator.CheckConsistency());
}

TEST(BlockAllocator, WorstFragmentationIsRefusedAndHeals) {
  constexpr uint32_t kBlocks = 1000;
  BlockAllocator allocator(2 * kBlocks, 2 * kBlocks);
  std::vector<Block> blocks;
  for (uint32_t i = 0; i < 2 * kBlocks; ++i) blocks.push_back(*Loan(allocator, 1));
  for (uint32_t i = 0; i < 2 * kBlocks; i += 2) allocator.Free(blocks[i]);
  ASSERT_TRUE(allocator.CheckConsistency());
  EXPECT_EQ(allocator.free_granules(), kBlocks);
  EXPECT_EQ(allocator.LargestFree(), 1u);
  EXPECT_FALSE(Loan(allocator, 2));
  allocator.Free(blocks[1]);
  EXPECT_EQ(allocator.LargestFree(), 3u);
  const std::optional<Block> block = Loan(allocator, 3);
  ASSERT_TRUE(block);
  EXPECT_EQ(block->granule, 0u);
  EXPECT_TRUE(allocator.CheckConsistency());
}

TEST(BlockAllocator, ABlockJustFreedIsLoanedNext) {
  BlockAllocator allocator(1 << 16, 64);
  std::vector<Block> blocks;
  for (int i = 0; i < 10; ++i) blocks.push_back(*Loan(allocator, 7));
  allocator.Free(blocks[4]);
  EXPECT_EQ(Loan(allocator, 7)->granule, blocks[4].granule);
}

TEST(BlockAllocator, ABlockJustFreedIsLoanedAsItIsThoughItCouldBeJoined) {
  BlockAllocator allocator(16, 4);
  const Block first = *Loan(allocator, 4);
  const Block second = *Loan(allocator, 4);
  allocator.Free(first);
  allocator.Free(second);
  EXPECT_TRUE(allocator.CheckConsistency());
  EXPECT_EQ(allocator.loaned_blocks(), 0u);
  EXPECT_EQ(allocator.free_granules(), 16u);
  EXPECT_EQ(Loan(allocator, 4)->granule, second.granule);
  EXPECT_TRUE(allocator.CheckConsistency());
}

TEST(BlockAllocator, ASmallBlockThatStaysDoesNotSplitTheArena) {
  BlockAllocator allocator(16, 4);
  allocator.Free(*Loan(allocator, 8));
  const std::optional<Block> stays = Loan(allocator, 1);
  ASSERT_TRUE(stays);
  EXPECT_TRUE(Loan(allocator, 12));
}

TEST(BlockAllocator, ABlockJustFreedIsJoinedForWhomItIsTooSmall) {
  BlockAllocator allocator(8, 4);
  const Block first = *Loan(allocator, 3);
  const Block second = *Loan(allocator, 5);
  allocator.Free(first);
  allocator.Free(second);
  EXPECT_TRUE(allocator.CheckConsistency());
  EXPECT_EQ(allocator.free_granules(), 8u);
  EXPECT_TRUE(Loan(allocator, 8));
  EXPECT_TRUE(allocator.CheckConsistency());
}

// Sizes on both sides of every border between size classes: from 2^n - 1 to
// 2^n + 1, and around each sixteenth in between.
TEST(BlockAllocator, SizesAtClassBorders) {
  for (uint32_t log = 0; log < 20; ++log) {
    for (uint32_t sixteenth = 0; sixteenth < 16; ++sixteenth) {
      const uint32_t border =
          static_cast<uint32_t>((uint64_t{1} << log) + (uint64_t{sixteenth} << log) / 16);
      for (const uint32_t size : {border - 1, border, border + 1}) {
        if (size == 0) continue;
        // Exactly that much between two others; one granule less is not enough.
        BlockAllocator allocator(size + 2, 4);
        const Block before = *Loan(allocator, 1);
        const std::optional<Block> block = Loan(allocator, size);
        ASSERT_TRUE(block) << size;
        const std::optional<Block> after = Loan(allocator, 1);
        ASSERT_TRUE(after);
        allocator.Free(*block);
        EXPECT_FALSE(Loan(allocator, size + 1)) << size;
        EXPECT_EQ(allocator.LargestFree(), size);
        const std::optional<Block> again = Loan(allocator, size);
        ASSERT_TRUE(again) << size;
        EXPECT_EQ(again->granule, block->granule);
        allocator.Free(before);
        allocator.Free(*after);
        allocator.Free(*again);
        ASSERT_TRUE(allocator.CheckConsistency());
      }
    }
  }
}

// The largest arena that a layout allows: classes beyond its end must not be
// mistaken for classes within.
TEST(BlockAllocator, TheLargestArenaDoesNotLoanMoreThanItHas) {
  BlockAllocator allocator(~0u, 8);
  const Block low = *Loan(allocator, (1u << 27) - 2);
  const uint32_t rest = allocator.free_granules();
  ASSERT_EQ(rest, 31 * (1u << 27) + 1);
  EXPECT_FALSE(Loan(allocator, rest + 1));
  const std::optional<Block> all = Loan(allocator, rest);
  ASSERT_TRUE(all);
  EXPECT_EQ(uint64_t{all->granule} + all->granules, ~0u);
  allocator.Free(*all);
  allocator.Free(low);
  EXPECT_TRUE(allocator.CheckConsistency());
  EXPECT_TRUE(Loan(allocator, ~0u));
}

}  // namespace
}  // namespace baton::ipc

// Loans pieces of an arena that lies in somebody's shared memory, from
// bookkeeping that lies in private memory: no peer can corrupt it, and no
// death can leave it half done.
//
// Two-level segregated fit over granules: Free takes constant time whatever
// the order of release, and so does Allocate, except where only the last free
// ranges of the very size class that was asked for may do: then it looks at
// each of those. The block freed last is kept as it is, and is the first to be
// loaned again (its lines are still in the cache): who loans one size after
// another of the same neither splits nor joins. All others are joined with
// their neighbours at once, and that one before a loan of another size.
//
// Thread safety: none; one thread at a time. Cost: a few nanoseconds, no
// allocation after construction.
#ifndef BATON_IPC_BLOCK_ALLOCATOR_H_
#define BATON_IPC_BLOCK_ALLOCATOR_H_

#include <cstdint>
#include <vector>

namespace baton::ipc {

class BlockAllocator {
 public:
  // A loaned block, in granules from the arena's start.
  struct Block {
    uint32_t granule = 0;
    uint32_t granules = 0;
    uint32_t node = 0;  // the allocator's own; hand it back unchanged
  };

  // Manages `granules` granules with at most `max_blocks` loaned at once.
  BlockAllocator(uint32_t granules, uint32_t max_blocks);

  // Loans a block; false when no free range is large enough (or max_blocks are out): then
  // `*block` is as before. `granules` of 0 counts as 1. Straight to where the block is kept: a
  // copy of what was just written in parts waits until it has left the CPU's store buffer.
  bool Allocate(uint32_t granules, Block* block);
  // `block` must come from Allocate and not have been freed.
  void Free(const Block& block);

  uint32_t granules() const { return granules_; }
  uint32_t free_granules() const { return free_granules_; }
  uint32_t loaned_blocks() const { return loaned_; }
  // The largest request that Allocate would grant now, at least approximately:
  // a request of this size succeeds. Joins what is free.
  uint32_t LargestFree();

  // Checks every invariant; for tests. O(blocks).
  bool CheckConsistency() const;

 private:
  static constexpr uint32_t kNone = ~0u;
  static constexpr uint32_t kSubBits = 4;  // 16 size classes per power of two
  static constexpr uint32_t kSubClasses = 1u << kSubBits;
  static constexpr uint32_t kClasses = 33 - kSubBits;

  struct Node {
    uint32_t granule = 0;
    uint32_t granules = 0;
    uint32_t before = kNone;  // neighbours in address order
    uint32_t after = kNone;
    uint32_t previous = kNone;  // free list of the class; `next` also links unused nodes
    uint32_t next = kNone;
    bool free = false;
  };
  struct Class {
    uint32_t first;
    uint32_t second;
  };

  static Class ClassOf(uint32_t granules);
  static uint64_t RoundUpToClass(uint32_t granules);
  uint32_t FindFree(uint32_t granules) const;
  // The node of such a block, cut from a free range; kNone: there is none.
  uint32_t Cut(uint32_t granules);
  // Joins the block freed last with its neighbours.
  void JoinLast();
  void Join(uint32_t node);
  void InsertFree(uint32_t node);
  void RemoveFree(uint32_t node);
  uint32_t TakeNode();
  void ReturnNode(uint32_t node);

  uint32_t granules_;
  uint32_t max_blocks_;
  uint32_t free_granules_ = 0;
  uint32_t loaned_ = 0;
  // Of the block freed last. To the lists below it is loaned.
  uint32_t last_ = kNone;
  std::vector<Node> nodes_;
  uint32_t unused_ = kNone;
  uint32_t first_bits_ = 0;
  uint32_t second_bits_[kClasses] = {};
  uint32_t heads_[kClasses][kSubClasses];
};

}  // namespace baton::ipc

#endif  // BATON_IPC_BLOCK_ALLOCATOR_H_

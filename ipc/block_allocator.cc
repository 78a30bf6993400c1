#include "ipc/block_allocator.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace baton::ipc {

BlockAllocator::BlockAllocator(uint32_t granules, uint32_t max_blocks)
    : granules_(granules), max_blocks_(max_blocks) {
  for (auto& row : heads_) std::fill(std::begin(row), std::end(row), kNone);
  // Loaned blocks and the one freed last, and between any two of them at most one free range.
  nodes_.resize(2 * (size_t{max_blocks} + 1) + 2);
  for (uint32_t i = static_cast<uint32_t>(nodes_.size()); i-- > 0;) ReturnNode(i);
  if (granules_ > 0) {
    const uint32_t whole = TakeNode();
    nodes_[whole] = Node{.granule = 0, .granules = granules_};
    InsertFree(whole);
    free_granules_ = granules_;
  }
}

// Sizes below 16 have a class each; above, 16 classes per power of two.
BlockAllocator::Class BlockAllocator::ClassOf(uint32_t granules) {
  if (granules < kSubClasses) return {0, granules};
  const uint32_t log = 31 - static_cast<uint32_t>(std::countl_zero(granules));
  const uint32_t second = (granules >> (log - kSubBits)) - kSubClasses;
  return {log - kSubBits + 1, second};
}

// The smallest size whose class holds only ranges of at least `granules`; may
// be more than any arena has.
uint64_t BlockAllocator::RoundUpToClass(uint32_t granules) {
  if (granules < kSubClasses) return granules;
  const uint32_t log = 31 - static_cast<uint32_t>(std::countl_zero(granules));
  const uint64_t step = uint64_t{1} << (log - kSubBits);
  return (granules + step - 1) / step * step;
}

uint32_t BlockAllocator::FindFree(uint32_t granules) const {
  if (const uint64_t rounded = RoundUpToClass(granules); rounded <= granules_) {
    const Class wanted = ClassOf(static_cast<uint32_t>(rounded));
    const uint32_t seconds = second_bits_[wanted.first] & (~0u << wanted.second);
    if (seconds != 0) {
      return heads_[wanted.first][std::countr_zero(seconds)];
    }
    const uint32_t firsts = first_bits_ & (~0u << (wanted.first + 1));
    if (firsts != 0) {
      const auto first = static_cast<uint32_t>(std::countr_zero(firsts));
      return heads_[first][std::countr_zero(second_bits_[first])];
    }
  }
  // Every larger class is empty. The class of `granules` itself may still
  // hold a range that is large enough: looked at so that an arena can be
  // loaned whole.
  const Class own = ClassOf(granules);
  for (uint32_t node = heads_[own.first][own.second]; node != kNone; node = nodes_[node].next) {
    if (nodes_[node].granules >= granules) return node;
  }
  return kNone;
}

void BlockAllocator::InsertFree(uint32_t node) {
  Node& range = nodes_[node];
  const Class at = ClassOf(range.granules);
  uint32_t& head = heads_[at.first][at.second];
  range.free = true;
  range.previous = kNone;
  range.next = head;
  if (head != kNone) nodes_[head].previous = node;
  head = node;
  first_bits_ |= 1u << at.first;
  second_bits_[at.first] |= 1u << at.second;
}

void BlockAllocator::RemoveFree(uint32_t node) {
  Node& range = nodes_[node];
  const Class at = ClassOf(range.granules);
  if (range.previous != kNone) {
    nodes_[range.previous].next = range.next;
  } else {
    heads_[at.first][at.second] = range.next;
    if (range.next == kNone) {
      second_bits_[at.first] &= ~(1u << at.second);
      if (second_bits_[at.first] == 0) first_bits_ &= ~(1u << at.first);
    }
  }
  if (range.next != kNone) nodes_[range.next].previous = range.previous;
  range.free = false;
}

uint32_t BlockAllocator::TakeNode() {
  const uint32_t node = unused_;
  if (node != kNone) unused_ = nodes_[node].next;
  return node;
}

void BlockAllocator::ReturnNode(uint32_t node) {
  nodes_[node] = Node{};
  nodes_[node].next = unused_;
  unused_ = node;
}

bool BlockAllocator::Allocate(uint32_t granules, Block* block) {
  granules = std::max(granules, 1u);
  if (loaned_ == max_blocks_) return false;
  uint32_t node = last_;
  if (node != kNone && nodes_[node].granules == granules) {
    last_ = kNone;
  } else {
    // First, so that this is not cut from behind it: what stays would split the arena for good.
    JoinLast();
    node = Cut(granules);
    if (node == kNone) return false;
  }
  block->granule = nodes_[node].granule;
  block->granules = granules;
  block->node = node;
  ++loaned_;
  free_granules_ -= granules;
  return true;
}

uint32_t BlockAllocator::Cut(uint32_t granules) {
  const uint32_t found = FindFree(granules);
  if (found == kNone) return kNone;
  RemoveFree(found);
  if (nodes_[found].granules > granules) {
    const uint32_t rest = TakeNode();
    Node& block = nodes_[found];
    nodes_[rest] = Node{.granule = block.granule + granules,
                        .granules = block.granules - granules,
                        .before = found,
                        .after = block.after};
    if (block.after != kNone) nodes_[block.after].before = rest;
    block.after = rest;
    block.granules = granules;
    InsertFree(rest);
  }
  return found;
}

void BlockAllocator::Free(const Block& block) {
  JoinLast();
  last_ = block.node;
  --loaned_;
  free_granules_ += block.granules;
}

void BlockAllocator::JoinLast() {
  if (last_ != kNone) Join(std::exchange(last_, kNone));
}

void BlockAllocator::Join(uint32_t node) {
  if (const uint32_t after = nodes_[node].after; after != kNone && nodes_[after].free) {
    RemoveFree(after);
    nodes_[node].granules += nodes_[after].granules;
    nodes_[node].after = nodes_[after].after;
    if (nodes_[node].after != kNone) nodes_[nodes_[node].after].before = node;
    ReturnNode(after);
  }
  if (const uint32_t before = nodes_[node].before; before != kNone && nodes_[before].free) {
    RemoveFree(before);
    nodes_[before].granules += nodes_[node].granules;
    nodes_[before].after = nodes_[node].after;
    if (nodes_[before].after != kNone) nodes_[nodes_[before].after].before = before;
    ReturnNode(node);
    node = before;
  }
  InsertFree(node);
}

uint32_t BlockAllocator::LargestFree() {
  JoinLast();
  if (first_bits_ == 0) return 0;
  const uint32_t first = 31 - static_cast<uint32_t>(std::countl_zero(first_bits_));
  const uint32_t second = 31 - static_cast<uint32_t>(std::countl_zero(second_bits_[first]));
  uint32_t largest = 0;
  for (uint32_t node = heads_[first][second]; node != kNone; node = nodes_[node].next) {
    largest = std::max(largest, nodes_[node].granules);
  }
  return largest;
}

bool BlockAllocator::CheckConsistency() const {
  if (granules_ == 0) return free_granules_ == 0 && loaned_ == 0;
  // Every granule belongs to exactly one range; the range at 0 starts the list.
  uint32_t first = kNone;
  uint32_t listed = 0;
  for (uint32_t i = 0; i < kClasses; ++i) {
    for (uint32_t j = 0; j < kSubClasses; ++j) {
      const bool bit = (second_bits_[i] >> j & 1) != 0;
      if (bit != (heads_[i][j] != kNone)) return false;
      for (uint32_t node = heads_[i][j]; node != kNone; node = nodes_[node].next) {
        const Class at = ClassOf(nodes_[node].granules);
        if (!nodes_[node].free || at.first != i || at.second != j) return false;
        ++listed;
      }
    }
    if (((first_bits_ >> i & 1) != 0) != (second_bits_[i] != 0)) return false;
  }
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].granules > 0 && nodes_[i].granule == 0) first = i;
  }
  uint32_t at = 0;
  uint32_t free_ranges = 0;
  uint32_t free_granules = 0;
  uint32_t loaned = 0;
  bool last_free = false;
  for (uint32_t node = first, before = kNone; node != kNone; node = nodes_[node].after) {
    const Node& range = nodes_[node];
    if (range.granule != at || range.before != before) return false;
    if (range.free && last_free) return false;  // neighbours must have been joined
    if (range.free) {
      ++free_ranges;
      free_granules += range.granules;
    } else {
      ++loaned;
    }
    last_free = range.free;
    at += range.granules;
    before = node;
  }
  const bool kept = last_ != kNone;
  if (kept && nodes_[last_].free) return false;
  return at == granules_ && free_ranges == listed &&
         free_granules + (kept ? nodes_[last_].granules : 0) == free_granules_ &&
         loaned == loaned_ + (kept ? 1 : 0);
}

}  // namespace baton::ipc

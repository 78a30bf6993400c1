// A ring: one producer, one consumer, 64-byte entries that carry their own
// proof of being there.
//
// Thread safety: one RingProducer and one RingConsumer per ring, each used by
// one thread at a time; the two may be in different processes.
//
// Invariants
// 1. The slot of sequence s is entries[s & (size - 1)], and holds the entry of
//    s exactly when its stamp equals s. Slots start with the stamps of the lap
//    before the first, so sequences may start anywhere and wrap.
// 2. The producer stores the stamp last, with release; the consumer loads it
//    first, with acquire (SYNC: entry_published). One line carries both the
//    entry and the proof, so a hand-over moves one cache line.
// 3. Neither side ever waits for the other, and a side that dies between two
//    stores leaves either the old stamp (nothing happened) or the new one
//    (all of it happened).
// 4. The ring does not know when a slot is free: whoever owns the producer
//    keeps at most `size` entries outstanding (see Channel).
#ifndef BATON_IPC_RING_H_
#define BATON_IPC_RING_H_

#include <atomic>
#include <cstdint>
#include <cstring>

#include "ipc/channel_layout.h"
#include "ipc/prefetch.h"

namespace baton::ipc {

// Private copy of an entry, as its consumer takes it.
template <typename Entry>
struct TakenEntry {
  static constexpr size_t kBody = sizeof(Entry) - sizeof(std::atomic<uint64_t>);
  alignas(Entry) unsigned char bytes[sizeof(Entry)];
  const Entry* operator->() const { return reinterpret_cast<const Entry*>(bytes); }
};

template <typename Entry>
class RingProducer {
 public:
  RingProducer() = default;
  // `entries` are `size` slots in memory that this process may write; `next`
  // is the sequence of the next entry.
  RingProducer(Entry* entries, uint32_t size, uint64_t next)
      : entries_(entries), mask_(size - 1), next_(next) {}
  RingProducer(RingProducer&&) = default;
  RingProducer& operator=(RingProducer&&) = default;

  uint64_t next() const { return next_; }

  // Has the next entry's line brought here, to be written, meanwhile.
  void Prefetch() const { PrefetchToWrite(&entries_[next_ & mask_]); }

  // Publishes the entry that `fill(Entry&)` writes (all but the stamp), and
  // returns its sequence. The slot must be free. Wait-free.
  template <typename Fill>
  uint64_t Publish(Fill&& fill) {
    Entry& entry = entries_[next_ & mask_];
    fill(entry);
    entry.stamp.store(next_, std::memory_order_release);  // SYNC: entry_published
    return next_++;
  }

  // Publishes `count` entries (at least one), which `fill(i, sequence, Entry&)`
  // writes, at once: the first is stamped last, and the consumer takes in order,
  // so it finds none of them or all. Their slots must be free. Wait-free.
  template <typename Fill>
  void PublishBatch(uint32_t count, Fill&& fill) {
    for (uint32_t i = count; i-- > 0;) {
      Entry& entry = entries_[(next_ + i) & mask_];
      fill(i, next_ + i, entry);
      entry.stamp.store(next_ + i, std::memory_order_release);  // SYNC: entry_published
    }
    next_ += count;
  }

 private:
  Entry* entries_ = nullptr;
  uint64_t mask_ = 0;
  uint64_t next_ = 0;
};

// Where the next entry of a ring shows, for who looks at several again and again. Good until that
// entry is taken, and as long as the ring is mapped.
struct NextEntry {
  const std::atomic<uint64_t>* stamp = nullptr;
  uint64_t sequence = 0;
  // Not without a stamp. SYNC: entry_published
  bool Ready() const { return stamp->load(std::memory_order_acquire) == sequence; }
};

template <typename Entry>
class RingConsumer {
 public:
  RingConsumer() = default;
  RingConsumer(const Entry* entries, uint32_t size, uint64_t next)
      : entries_(entries), mask_(size - 1), next_(next) {}
  RingConsumer(RingConsumer&&) = default;
  RingConsumer& operator=(RingConsumer&&) = default;

  // Sequence of the entry that TryTake would give.
  uint64_t next() const { return next_; }

  bool Ready() const { return Next().Ready(); }
  NextEntry Next() const { return {.stamp = &entries_[next_ & mask_].stamp, .sequence = next_}; }

  // Copies the next entry to private memory, so that what is checked is what
  // is used, and moves on. False when there is none. Wait-free.
  bool TryTake(TakenEntry<Entry>* taken) {
    if (!Ready()) return false;
    std::memcpy(taken->bytes, static_cast<const void*>(&entries_[next_ & mask_]), sizeof(Entry));
    ++next_;
    return true;
  }

  // Looks at the next entry without taking it: Advance then takes the one that was seen.
  bool Peek(TakenEntry<Entry>* seen) const {
    if (!Ready()) return false;
    std::memcpy(seen->bytes, static_cast<const void*>(&entries_[next_ & mask_]), sizeof(Entry));
    return true;
  }
  void Advance() { ++next_; }

  // Has the next entry's line brought here meanwhile. For who is about to look at many rings.
  void Prefetch() const { PrefetchToRead(&entries_[next_ & mask_]); }

 private:
  const Entry* entries_ = nullptr;
  uint64_t mask_ = 0;
  uint64_t next_ = 0;
};

// Where a producer that died left off: the first sequence from `hint` on whose
// slot does not hold it. `hint` may lag behind the truth, not run ahead of it.
template <typename Entry>
uint64_t FindPublished(const Entry* entries, uint32_t size, uint64_t hint) {
  uint64_t next = hint;
  for (uint32_t i = 0; i < size; ++i) {
    if (entries[next & (size - 1)].stamp.load(std::memory_order_acquire) != next) break;
    ++next;
  }
  return next;
}

}  // namespace baton::ipc

#endif  // BATON_IPC_RING_H_

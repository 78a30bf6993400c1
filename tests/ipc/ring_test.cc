// The ring: exactly what was published, in order, wherever sequences start
// (R9), and nothing of what a dead producer left half done (R1).
#include "ipc/ring.h"

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/channel_layout.h"

namespace baton::ipc {
namespace {

constexpr uint64_t k2To32 = uint64_t{1} << 32;
constexpr uint64_t kStarts[] = {0, 1, k2To32 - 5, uint64_t{0} - 5, (uint64_t{1} << 63) - 5};
constexpr uint32_t kSizes[] = {2, 8, 256};

// Two producers cannot be made by accident.
static_assert(!std::is_copy_constructible_v<RingProducer<SubmissionEntry>>);
static_assert(!std::is_copy_constructible_v<RingConsumer<SubmissionEntry>>);
static_assert(!std::is_copy_assignable_v<RingProducer<SubmissionEntry>>);

// A ring as a segment holds it, in memory of our own.
class TestRing {
 public:
  TestRing(uint32_t size, uint64_t first)
      : plan_(*PlanSubmissionSegment(size, 128)),
        bytes_(new (std::align_val_t{4096}) std::byte[plan_.segment_bytes]()),
        size_(size) {
    InitSubmissionSegment(bytes_, plan_, size, first);
  }
  ~TestRing() { ::operator delete[](bytes_, std::align_val_t{4096}); }
  TestRing(const TestRing&) = delete;
  TestRing& operator=(const TestRing&) = delete;

  SubmissionEntry* entries() {
    return reinterpret_cast<SubmissionEntry*>(bytes_ + plan_.ring_offset);
  }
  RingProducer<SubmissionEntry> Producer(uint64_t next) { return {entries(), size_, next}; }
  RingConsumer<SubmissionEntry> Consumer(uint64_t next) { return {entries(), size_, next}; }

 private:
  SegmentPlan plan_;
  std::byte* bytes_;
  uint32_t size_;
};

// Every field is made from the sequence, so that a mixture of two shows.
uint64_t Mix(uint64_t sequence, uint64_t salt) {
  return (sequence + 1) * 0x9e3779b97f4a7c15 ^ salt * 0xbf58476d1ce4e5b9;
}

void FillFrom(SubmissionEntry& entry, uint64_t sequence) {
  entry.request_id = Mix(sequence, 1);
  entry.deadline_ns = static_cast<int64_t>(Mix(sequence, 2));
  entry.descriptor_token = Mix(sequence, 3);
  entry.request_granule = static_cast<uint32_t>(Mix(sequence, 4));
  entry.request_granules = static_cast<uint32_t>(Mix(sequence, 5));
  entry.response_granule = static_cast<uint32_t>(Mix(sequence, 6));
  entry.response_granules = static_cast<uint32_t>(Mix(sequence, 7));
  entry.descriptor_bytes = static_cast<uint32_t>(Mix(sequence, 8));
  entry.kind = static_cast<uint16_t>(Mix(sequence, 9));
  entry.method = static_cast<uint16_t>(Mix(sequence, 10));
  entry.device_granule = static_cast<uint32_t>(Mix(sequence, 11));
  entry.device_granules = static_cast<uint32_t>(Mix(sequence, 12));
}

bool IsFrom(const TakenEntry<SubmissionEntry>& taken, uint64_t sequence) {
  const SubmissionEntry& entry = *taken.operator->();
  return entry.request_id == Mix(sequence, 1) &&
         entry.deadline_ns == static_cast<int64_t>(Mix(sequence, 2)) &&
         entry.descriptor_token == Mix(sequence, 3) &&
         entry.request_granule == static_cast<uint32_t>(Mix(sequence, 4)) &&
         entry.request_granules == static_cast<uint32_t>(Mix(sequence, 5)) &&
         entry.response_granule == static_cast<uint32_t>(Mix(sequence, 6)) &&
         entry.response_granules == static_cast<uint32_t>(Mix(sequence, 7)) &&
         entry.descriptor_bytes == static_cast<uint32_t>(Mix(sequence, 8)) &&
         entry.kind == static_cast<uint16_t>(Mix(sequence, 9)) &&
         entry.method == static_cast<uint16_t>(Mix(sequence, 10)) &&
         entry.device_granule == static_cast<uint32_t>(Mix(sequence, 11)) &&
         entry.device_granules == static_cast<uint32_t>(Mix(sequence, 12));
}

// ---- Two threads -------------------------------------------------------------------------------

struct Shape {
  uint64_t first;
  uint32_t size;
  uint64_t count;
};

class RingThreads : public ::testing::TestWithParam<Shape> {};

// R9; and a consumer never sees an entry that is not whole.
TEST_P(RingThreads, GiveEveryEntryOnceInOrderAndWhole) {
  const auto [first, size, count] = GetParam();
  TestRing ring(size, first);
  // Who owns the producer has to know which slots are free (invariant 4).
  std::atomic<uint64_t> read{0};
  std::thread producing([&] {
    RingProducer<SubmissionEntry> producer = ring.Producer(first);
    for (uint64_t i = 0; i < count; ++i) {
      while (i - read.load(std::memory_order_acquire) >= size) std::this_thread::yield();
      producer.Publish([&](SubmissionEntry& entry) { FillFrom(entry, first + i); });
    }
  });
  RingConsumer<SubmissionEntry> consumer = ring.Consumer(first);
  TakenEntry<SubmissionEntry> taken;
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < count; ++i) {
    while (!consumer.TryTake(&taken)) std::this_thread::yield();
    wrong += IsFrom(taken, first + i) ? 0 : 1;
    read.store(i + 1, std::memory_order_release);
  }
  producing.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(consumer.next(), first + count);
  EXPECT_FALSE(consumer.Ready()) << "more came out than went in";
}

INSTANTIATE_TEST_SUITE_P(
    Starts, RingThreads,
    ::testing::Values(Shape{.first = 0, .size = 256, .count = 3'000'000},
                      Shape{.first = k2To32 - 1'000, .size = 64, .count = 1'000'000},
                      Shape{.first = uint64_t{0} - 1'000, .size = 64, .count = 1'000'000},
                      Shape{.first = uint64_t{0} - 7, .size = 2, .count = 200'000}));

// ---- One thread: laps and wraps ----------------------------------------------------------------

TEST(Ring, StartsEmptyWhereverSequencesStart) {
  for (const uint32_t size : kSizes) {
    for (const uint64_t first : kStarts) {
      TestRing ring(size, first);
      // Nothing that will ever be used matches what lies there at the start.
      for (uint64_t i = 0; i < 3 * size; ++i) EXPECT_FALSE(ring.Consumer(first + i).Ready());
    }
  }
}

// R1: whoever stops between two stores of a batch has published nothing of it.
TEST(Ring, ABatchIsThereAtOnce) {
  for (const uint32_t size : kSizes) {
    for (const uint64_t first : kStarts) {
      TestRing ring(size, first);
      RingProducer<SubmissionEntry> producer = ring.Producer(first);
      RingConsumer<SubmissionEntry> consumer = ring.Consumer(first);
      TakenEntry<SubmissionEntry> taken;
      uint64_t put = first;
      for (uint32_t count = 1; count <= size; count += count) {
        producer.PublishBatch(count, [&](uint32_t i, uint64_t sequence, SubmissionEntry& entry) {
          EXPECT_EQ(sequence, put + i);
          EXPECT_FALSE(consumer.Ready());
          EXPECT_EQ(FindPublished(ring.entries(), size, put), put);
          FillFrom(entry, sequence);
        });
        for (uint32_t i = 0; i < count; ++i) {
          ASSERT_TRUE(consumer.TryTake(&taken));
          EXPECT_TRUE(IsFrom(taken, put + i));
        }
        put += count;
        EXPECT_FALSE(consumer.Ready());
        EXPECT_EQ(producer.next(), put);
      }
    }
  }
}

TEST(Ring, WrapsItsSlotsAndItsSequences) {  // R9
  for (const uint32_t size : kSizes) {
    for (const uint64_t first : kStarts) {
      TestRing ring(size, first);
      RingProducer<SubmissionEntry> producer = ring.Producer(first);
      RingConsumer<SubmissionEntry> consumer = ring.Consumer(first);
      TakenEntry<SubmissionEntry> taken;
      uint64_t put = first;
      uint64_t got = first;
      for (uint32_t lap = 0; lap < 6; ++lap) {
        for (uint32_t i = 0; i < size; ++i, ++put) {
          EXPECT_EQ(producer.Publish([&](SubmissionEntry& e) { FillFrom(e, put); }), put);
        }
        for (uint32_t i = 0; i < size; ++i, ++got) {
          ASSERT_TRUE(consumer.Peek(&taken));
          ASSERT_TRUE(IsFrom(taken, got));
          ASSERT_TRUE(consumer.TryTake(&taken));
          ASSERT_TRUE(IsFrom(taken, got));
        }
        ASSERT_FALSE(consumer.TryTake(&taken)) << "size " << size << " first " << first;
        ASSERT_FALSE(consumer.Peek(&taken));
      }
    }
  }
}

// The stamp comes last: nothing shows while the entry is being written.
TEST(Ring, AnEntryShowsOnlyWhenItIsWritten) {
  TestRing ring(2, 7);
  RingProducer<SubmissionEntry> producer = ring.Producer(7);
  RingConsumer<SubmissionEntry> consumer = ring.Consumer(7);
  TakenEntry<SubmissionEntry> taken;
  for (uint64_t sequence = 7; sequence < 12; ++sequence) {
    producer.Publish([&](SubmissionEntry& entry) {
      EXPECT_FALSE(consumer.Ready());
      FillFrom(entry, sequence);
      EXPECT_FALSE(consumer.Ready());
    });
    EXPECT_TRUE(consumer.TryTake(&taken));
  }
}

// Who looks before it takes has what it saw, whatever a front has made of it since.
TEST(Ring, AdvanceTakesWhatPeekSaw) {
  TestRing ring(2, 0);
  auto producer = ring.Producer(0);
  auto consumer = ring.Consumer(0);
  consumer.Prefetch();
  producer.Publish([](SubmissionEntry& entry) { entry.request_id = 7; });
  producer.Publish([](SubmissionEntry& entry) { entry.request_id = 8; });
  TakenEntry<SubmissionEntry> seen;
  ASSERT_TRUE(consumer.Peek(&seen));
  ring.entries()[0].request_id = 9;
  consumer.Advance();
  EXPECT_EQ(seen->request_id, 7u);
  EXPECT_EQ(consumer.next(), 1u);
  ASSERT_TRUE(consumer.TryTake(&seen));
  EXPECT_EQ(seen->request_id, 8u);
  EXPECT_FALSE(consumer.Ready());
}

TEST(Ring, WhatWasTakenIsPrivate) {
  TestRing ring(2, 0);
  RingProducer<SubmissionEntry> producer = ring.Producer(0);
  RingConsumer<SubmissionEntry> consumer = ring.Consumer(0);
  producer.Publish([](SubmissionEntry& entry) { FillFrom(entry, 0); });
  TakenEntry<SubmissionEntry> taken;
  ASSERT_TRUE(consumer.TryTake(&taken));
  FillFrom(ring.entries()[0], 99);
  EXPECT_TRUE(IsFrom(taken, 0));
}

// ---- Death of the producer ---------------------------------------------------------------------

// R1: killed between any two of its stores, a producer has published all of an
// entry or nothing of it.
TEST(RingProducerDeath, HalfAnEntryIsInvisibleAndIsWrittenOver) {
  for (const uint64_t first : kStarts) {
    for (uint32_t before = 0; before < 20; ++before) {
      constexpr uint32_t kSize = 8;
      TestRing ring(kSize, first);
      RingConsumer<SubmissionEntry> consumer = ring.Consumer(first);
      TakenEntry<SubmissionEntry> taken;
      {
        RingProducer<SubmissionEntry> producer = ring.Producer(first);
        for (uint32_t i = 0; i < before; ++i) {
          producer.Publish([&](SubmissionEntry& e) { FillFrom(e, first + i); });
          // All but the last two are read.
          if (i + 2 < before) {
            ASSERT_TRUE(consumer.TryTake(&taken));
          }
        }
        // It dies here: everything of the next entry but the stamp.
        FillFrom(ring.entries()[producer.next() & (kSize - 1)], 12345);
      }
      const uint64_t unread = before < 2 ? before : 2;
      const uint64_t found = FindPublished(ring.entries(), kSize, consumer.next());
      ASSERT_EQ(found, first + before);
      for (uint64_t i = 0; i < unread; ++i) {
        ASSERT_TRUE(consumer.TryTake(&taken));
        ASSERT_TRUE(IsFrom(taken, first + before - unread + i));
      }
      ASSERT_FALSE(consumer.Ready());
      // Its successor goes on where it stopped.
      RingProducer<SubmissionEntry> successor = ring.Producer(found);
      successor.Publish([&](SubmissionEntry& e) { FillFrom(e, found); });
      ASSERT_TRUE(consumer.TryTake(&taken));
      ASSERT_TRUE(IsFrom(taken, found));
      ASSERT_FALSE(consumer.Ready());
    }
  }
}

TEST(RingProducerDeath, FindPublishedNeedsOnlyAHintThatLags) {
  for (const uint32_t size : kSizes) {
    for (const uint64_t first : kStarts) {
      for (const uint64_t published :
           {uint64_t{0}, uint64_t{1}, uint64_t{size} - 1, uint64_t{size}, uint64_t{3} * size + 1}) {
        TestRing ring(size, first);
        RingProducer<SubmissionEntry> producer = ring.Producer(first);
        for (uint64_t i = 0; i < published; ++i) {
          producer.Publish([&](SubmissionEntry& e) { FillFrom(e, first + i); });
        }
        const uint64_t most = published < size ? published : size;
        for (uint64_t lag = 0; lag <= most; ++lag) {
          EXPECT_EQ(FindPublished(ring.entries(), size, first + published - lag), first + published)
              << "size " << size << " first " << first << " lag " << lag;
        }
      }
    }
  }
}

}  // namespace
}  // namespace baton::ipc

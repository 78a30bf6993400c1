#include "ipc/channel_layout.h"

#include <bit>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace baton::ipc {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxArenaBytes = kGranuleBytes << 32;

constexpr uint64_t RoundUpToPage(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

template <typename Entry>
constexpr uint32_t kMostEntries = std::is_same_v<Entry, CompletionEntry>
                                      ? CompletionEntries(kMaxRingEntries)
                                      : kMaxRingEntries;

template <typename Entry, typename State>
absl::StatusOr<SegmentPlan> Plan(uint32_t ring_entries, uint64_t arena_bytes) {
  if (!std::has_single_bit(ring_entries) || ring_entries < kMinRingEntries ||
      ring_entries > kMostEntries<Entry>) {
    return absl::InvalidArgumentError(absl::StrCat("ring_entries is ", ring_entries,
                                                   ": must be a power of two from ",
                                                   kMinRingEntries, " to ", kMostEntries<Entry>));
  }
  if (arena_bytes == 0 || arena_bytes > kMaxArenaBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("arena_bytes is ", arena_bytes, ": must be from 1 to ", kMaxArenaBytes));
  }
  SegmentPlan plan;
  plan.ring_offset = sizeof(SegmentHeader) + sizeof(State);
  plan.arena_offset = RoundUpToPage(plan.ring_offset + ring_entries * sizeof(Entry));
  plan.arena_bytes = RoundUpToGranules(arena_bytes);
  plan.segment_bytes = RoundUpToPage(plan.arena_offset + plan.arena_bytes);
  return plan;
}

template <typename Entry>
void Init(std::byte* segment, uint64_t magic, const SegmentPlan& plan, uint32_t ring_entries,
          uint64_t first_sequence) {
  auto* header = reinterpret_cast<SegmentHeader*>(segment);
  header->magic = magic;
  header->segment_bytes = plan.segment_bytes;
  header->arena_offset = plan.arena_offset;
  header->arena_bytes = plan.arena_bytes;
  header->first_sequence = first_sequence;
  header->ring_entries = ring_entries;
  header->entry_bytes = sizeof(Entry);
  header->ring_offset = static_cast<uint32_t>(plan.ring_offset);
  // Every slot starts as the lap before the first: no sequence that is going
  // to be used can match what is there, wherever the sequences start.
  auto* entries = reinterpret_cast<Entry*>(segment + plan.ring_offset);
  for (uint32_t i = 0; i < ring_entries; ++i) {
    const uint64_t sequence = first_sequence + i;
    entries[sequence & (ring_entries - 1)].stamp.store(sequence - ring_entries,
                                                       std::memory_order_relaxed);
  }
  header->version.store(kLayoutVersion, std::memory_order_release);  // SYNC: segment_ready
}

template <typename Entry, typename State>
absl::StatusOr<SegmentView> Read(const std::byte* segment, uint64_t mapped_bytes, uint64_t magic) {
  if (mapped_bytes < sizeof(SegmentHeader) + sizeof(State)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a segment of ", mapped_bytes, " bytes cannot hold its header"));
  }
  const auto* header = reinterpret_cast<const SegmentHeader*>(segment);
  const uint32_t version = header->version.load(std::memory_order_acquire);  // SYNC: segment_ready
  if (version == 0) {
    return absl::FailedPreconditionError(
        "the segment was never finished: its maker died or is not done");
  }
  if (version >> 16 != kLayoutVersion >> 16) {
    return absl::FailedPreconditionError(
        absl::StrCat("the segment has layout version ", version >> 16, ", this program has ",
                     kLayoutVersion >> 16, ": use the same Baton on both sides"));
  }
  if (header->magic != magic) {
    return absl::FailedPreconditionError("the segment is not what it should be: wrong magic");
  }
  // Copied before it is checked: the peer may change it meanwhile.
  SegmentHeader copy{};
  std::memcpy(static_cast<void*>(&copy), segment, offsetof(SegmentHeader, version));
  absl::StatusOr<SegmentPlan> plan = Plan<Entry, State>(copy.ring_entries, copy.arena_bytes);
  if (!plan.ok()) return plan.status();
  if (copy.entry_bytes != sizeof(Entry) || copy.ring_offset != plan->ring_offset ||
      copy.arena_offset != plan->arena_offset || copy.arena_bytes != plan->arena_bytes ||
      copy.segment_bytes != plan->segment_bytes || plan->segment_bytes > mapped_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the segment's header does not fit: it says ", copy.segment_bytes, " bytes, arena of ",
        copy.arena_bytes, " at ", copy.arena_offset, ", ", copy.ring_entries, " entries of ",
        copy.entry_bytes, "; mapped are ", mapped_bytes));
  }
  return SegmentView{
      .plan = *plan, .ring_entries = copy.ring_entries, .first_sequence = copy.first_sequence};
}

}  // namespace

absl::StatusOr<SegmentPlan> PlanSubmissionSegment(uint32_t ring_entries, uint64_t arena_bytes) {
  return Plan<SubmissionEntry, FrontState>(ring_entries, arena_bytes);
}

absl::StatusOr<SegmentPlan> PlanCompletionSegment(uint32_t ring_entries, uint64_t arena_bytes) {
  return Plan<CompletionEntry, WorkerState>(ring_entries, arena_bytes);
}

void InitSubmissionSegment(std::byte* segment, const SegmentPlan& plan, uint32_t ring_entries,
                           uint64_t first_sequence) {
  Init<SubmissionEntry>(segment, kSubmissionMagic, plan, ring_entries, first_sequence);
}

void InitCompletionSegment(std::byte* segment, const SegmentPlan& plan, uint32_t ring_entries,
                           uint64_t first_sequence) {
  auto* state = reinterpret_cast<WorkerState*>(segment + sizeof(SegmentHeader));
  state->taken.store(first_sequence, std::memory_order_relaxed);
  state->published.store(first_sequence, std::memory_order_relaxed);
  Init<CompletionEntry>(segment, kCompletionMagic, plan, ring_entries, first_sequence);
}

absl::StatusOr<SegmentView> ReadSubmissionHeader(const std::byte* segment, uint64_t mapped_bytes) {
  return Read<SubmissionEntry, FrontState>(segment, mapped_bytes, kSubmissionMagic);
}

absl::StatusOr<SegmentView> ReadCompletionHeader(const std::byte* segment, uint64_t mapped_bytes) {
  return Read<CompletionEntry, WorkerState>(segment, mapped_bytes, kCompletionMagic);
}

}  // namespace baton::ipc

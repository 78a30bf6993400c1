// What lies where in a channel's two segments. Byte offsets are drawn in
// DESIGN.md and pinned by the static_asserts below and by a golden dump.
//
//   submission segment   the front writes, the worker maps it read-only
//   completion segment   the worker writes, the front maps it read-only
//                        (the front writes its header once, before it shares it)
//
// Both: header | state lines of the writer | ring of 64-byte entries | arena.
// Offsets into an arena are counted in granules of 128 bytes, so that they
// fit 32 bits for arenas of up to 512 GiB.
#ifndef BATON_IPC_CHANNEL_LAYOUT_H_
#define BATON_IPC_CHANNEL_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton::ipc {

// Shared layouts are aligned to a constant, not to what one machine prefers:
// 128 covers the pair of lines that x86 prefetches together.
inline constexpr size_t kSharedAlignment = 128;
inline constexpr uint64_t kGranuleBytes = 128;

inline constexpr uint64_t kSubmissionMagic = 0x3162'7553'6e74'6142;  // "BatnSub1"
inline constexpr uint64_t kCompletionMagic = 0x3170'6d43'6e74'6142;  // "BatnCmp1"
inline constexpr uint32_t kLayoutVersion = 3u << 16 | 1;             // major << 16 | minor

inline constexpr uint32_t kMinRingEntries = 2;
inline constexpr uint32_t kMaxRingEntries = 1u << 16;
// The most bytes a request's or a response's description may take.
inline constexpr uint32_t kMaxDescriptorBytes = 64 * 1024;
// Descriptor tokens of a channel's requests run from 1 to this; a worker keeps
// what each stands for, so that none is parsed twice.
inline constexpr uint32_t kMaxPlans = 256;

struct SegmentHeader {
  uint64_t magic;
  uint64_t segment_bytes;
  uint64_t arena_offset;
  uint64_t arena_bytes;
  uint64_t first_sequence;  // of the segment's ring
  uint32_t ring_entries;    // a power of two
  uint32_t entry_bytes;
  uint32_t ring_offset;
  uint8_t reserved[128 - 52 - 4];
  std::atomic<uint32_t> version;  // published last: SYNC segment_ready
};
static_assert(sizeof(SegmentHeader) == 128);
static_assert(offsetof(SegmentHeader, version) == 124);

// One cache line each. The stamp is stored last (SYNC: entry_published); the
// slot of sequence s holds the entry of s exactly when stamp == s.
struct SubmissionEntry {
  std::atomic<uint64_t> stamp;
  uint64_t request_id;
  int64_t deadline_ns;        // CLOCK_MONOTONIC; 0: none
  uint64_t descriptor_token;  // names the descriptor's bytes within this channel; 0: no name
  uint32_t request_granule;   // the request's block, in the submission arena
  uint32_t request_granules;
  uint32_t response_granule;  // the loaned block for its response, in the completion arena
  uint32_t response_granules;
  uint32_t descriptor_bytes;
  uint16_t kind;    // RequestKind
  uint16_t method;  // which of the model's, in the order of Welcome
  // Where the results go on the device: a block of the channel's slice of the
  // arena, whichever generation's. None: they go to the response's block.
  uint32_t device_granule;
  uint32_t device_granules;
};
static_assert(sizeof(SubmissionEntry) == 64);
static_assert(offsetof(SubmissionEntry, request_granule) == 32);
static_assert(offsetof(SubmissionEntry, descriptor_bytes) == 48);
static_assert(offsetof(SubmissionEntry, device_granule) == 56);

// kStream: one that has any number of items and of responses, see stream_layout.h;
// its device_granule is then the granule within the request's block at which its
// StreamWindow starts, its device_granules the size of that window.
// kInferOnDevice: kInfer whose block's header says where its inputs are on the
// device. A worker does not look at the header of a kInfer: it is one more line
// that would have to come over from the front's core.
enum class RequestKind : uint16_t { kInfer = 1, kStream = 2, kInferOnDevice = 3 };

// CompletionEntry::flags: the worker gave the request back without having run it.
inline constexpr uint16_t kCompletionDropped = 1;
// Also: because its inputs lie in the device memory of another generation.
inline constexpr uint16_t kCompletionStaleInputs = 2;
// The request goes on: it keeps its place and its blocks, and has another
// completion.
inline constexpr uint16_t kCompletionMore = 4;

// Entries of the completion ring of a channel: each outstanding place may owe
// two, one that says kCompletionMore and the last.
constexpr uint32_t CompletionEntries(uint32_t ring_entries) { return 2 * ring_entries; }

struct CompletionEntry {
  std::atomic<uint64_t> stamp;
  uint64_t request_id;
  uint64_t generation;
  uint64_t descriptor_token;  // names the descriptor's bytes within this generation; 0: no name
  uint64_t needed_bytes;      // RESOURCE_EXHAUSTED: the response block that would do
  uint32_t descriptor_bytes;  // of the Response, or of the error text
  uint16_t status_code;       // absl::StatusCode
  uint16_t flags;
  uint64_t service_ns;           // time in the model
  uint64_t needed_device_bytes;  // as needed_bytes, of the block on the device
};
static_assert(sizeof(CompletionEntry) == 64);
static_assert(offsetof(CompletionEntry, needed_bytes) == 32);
static_assert(offsetof(CompletionEntry, service_ns) == 48);
static_assert(offsetof(CompletionEntry, needed_device_bytes) == 56);

// Written by the front, in the submission segment.
struct FrontState {
  alignas(kSharedAlignment) std::atomic<uint32_t> sleeping;  // SYNC: front_sleeps
  // Advice: 1 where the front has had one request at a time under way for a while, and so waits
  // for each answer, most likely. On a line that the worker reads for every request anyway, so it
  // has to change seldom.
  std::atomic<uint32_t> one_at_a_time;
  // Bumped after a request's `cancelled` is set, so that the worker need not
  // touch the block of a request that nobody cancelled.
  alignas(kSharedAlignment) std::atomic<uint64_t> cancellations;
  // For observers. The worker never reads it, and it has a line of its own: it is written with
  // every answer, and the worker reads the two above with every request.
  alignas(kSharedAlignment) std::atomic<uint64_t> completions_read;
};
// How a front sleeps: what the worker has to do to wake it.
enum FrontSleep : uint32_t { kFrontAwake = 0, kFrontOnFutex = 1, kFrontOnEventFd = 2 };

// Written by the worker, in the completion segment.
struct WorkerState {
  // Every request with a sequence before `taken` has been started
  // (SYNC: request_taken); every completion before `published` is there (it
  // may lag by one: the stamps decide).
  alignas(kSharedAlignment) std::atomic<uint64_t> taken;
  std::atomic<uint64_t> published;
  // Where a generation took over. `resume_generation` is 0 while the record
  // is being written (SYNC: generation_resumed).
  alignas(kSharedAlignment) std::atomic<uint64_t> resume_generation;
  std::atomic<uint64_t> resume_taken;
  std::atomic<uint64_t> resume_published;
  // Futex word that a sleeping front waits on.
  alignas(kSharedAlignment) std::atomic<uint32_t> wake_count;
};
static_assert(sizeof(FrontState) == 384);
static_assert(offsetof(FrontState, one_at_a_time) == 4);
static_assert(offsetof(FrontState, completions_read) == 256);
static_assert(sizeof(WorkerState) == 384);
static_assert(offsetof(WorkerState, resume_generation) == 128);
static_assert(offsetof(WorkerState, wake_count) == 256);

// The start of a request block; the descriptor follows it at
// kBlockHeaderBytes. The front may set `cancelled` at any time while the
// request waits, and `input_generation` when it has moved the inputs.
struct RequestBlockHeader {
  std::atomic<uint32_t> cancelled;
  // Where inputs lie that are on the device: a block of the channel's slice for
  // inputs. None: they are in this block.
  std::atomic<uint32_t> input_granule;
  std::atomic<uint32_t> input_granules;
  // In whose arena they are, its low 32 bits. SYNC: inputs_moved
  std::atomic<uint32_t> input_generation;
};
static_assert(sizeof(RequestBlockHeader) == 16);
static_assert(offsetof(RequestBlockHeader, input_granule) == 4);
static_assert(offsetof(RequestBlockHeader, input_granules) == 8);
static_assert(offsetof(RequestBlockHeader, input_generation) == 12);
inline constexpr uint32_t kBlockHeaderBytes = 16;

// Where the parts of one segment are.
struct SegmentPlan {
  uint64_t ring_offset = 0;
  uint64_t arena_offset = 0;
  uint64_t arena_bytes = 0;
  uint64_t segment_bytes = 0;
};
// `ring_entries` must be a power of two within the limits above, of the ring of
// completions up to CompletionEntries(kMaxRingEntries); `arena_bytes` is rounded up to whole
// granules. INVALID_ARGUMENT otherwise.
absl::StatusOr<SegmentPlan> PlanSubmissionSegment(uint32_t ring_entries, uint64_t arena_bytes);
absl::StatusOr<SegmentPlan> PlanCompletionSegment(uint32_t ring_entries, uint64_t arena_bytes);

// Writes header and stamps into a zero-filled segment and publishes it.
void InitSubmissionSegment(std::byte* segment, const SegmentPlan& plan, uint32_t ring_entries,
                           uint64_t first_sequence);
void InitCompletionSegment(std::byte* segment, const SegmentPlan& plan, uint32_t ring_entries,
                           uint64_t first_sequence);

// Private, checked copy of a header.
struct SegmentView {
  SegmentPlan plan;
  uint32_t ring_entries = 0;
  uint64_t first_sequence = 0;
};
// FAILED_PRECONDITION for another magic or major version or a segment that
// was never published; INVALID_ARGUMENT for sizes that do not fit
// `mapped_bytes`.
absl::StatusOr<SegmentView> ReadSubmissionHeader(const std::byte* segment, uint64_t mapped_bytes);
absl::StatusOr<SegmentView> ReadCompletionHeader(const std::byte* segment, uint64_t mapped_bytes);

constexpr uint64_t RoundUpToGranules(uint64_t bytes) {
  return (bytes + kGranuleBytes - 1) / kGranuleBytes * kGranuleBytes;
}

}  // namespace baton::ipc

#endif  // BATON_IPC_CHANNEL_LAYOUT_H_

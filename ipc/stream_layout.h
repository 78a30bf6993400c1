// What a stream adds to its request: two places in shared memory, one of each
// writer, beside the one entry in the ring. Drawn in DESIGN.md.
//
//   StreamWindow    in the request's block, at the granule that the entry names:
//                   the front writes it
//   StreamProgress  at the start of the response's block: the worker writes it;
//                   the text of the stream's end follows it
//
// Responses are completions that carry kCompletionMore; the last completion is
// the stream's end.
#ifndef BATON_IPC_STREAM_LAYOUT_H_
#define BATON_IPC_STREAM_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ipc/channel_layout.h"

namespace baton::ipc {

// Of credits and of items that may be on their way; a power of two.
inline constexpr uint32_t kMaxStreamWindow = 64;

// The block that credit i brings, at i mod window.
struct CreditBlock {
  uint32_t granule;  // in the completion arena
  uint32_t granules;
};

// Item i, at i mod window: a block as a request's, in the submission arena.
struct ItemBlock {
  uint32_t granule;
  uint32_t granules;
  uint32_t descriptor_bytes;
  uint32_t reserved;
  uint64_t descriptor_token;  // as in SubmissionEntry
};

// Written by the front. The counters only grow, and wrap.
struct StreamWindow {
  // So many responses may be written in all. SYNC: stream_credit
  alignas(kSharedAlignment) std::atomic<uint64_t> credits;
  // So many items are there. SYNC: stream_item
  alignas(kSharedAlignment) std::atomic<uint64_t> items;
  std::atomic<uint32_t> items_done;  // there will be no more
  alignas(kSharedAlignment) CreditBlock credit_blocks[kMaxStreamWindow];
  ItemBlock item_blocks[kMaxStreamWindow];
};
static_assert(sizeof(CreditBlock) == 8);
static_assert(sizeof(ItemBlock) == 24);
static_assert(offsetof(StreamWindow, items) == 128);
static_assert(offsetof(StreamWindow, items_done) == 136);
static_assert(offsetof(StreamWindow, credit_blocks) == 256);
static_assert(offsetof(StreamWindow, item_blocks) == 768);
static_assert(sizeof(StreamWindow) == 2304);
inline constexpr uint32_t kStreamWindowGranules = sizeof(StreamWindow) / kGranuleBytes;

// Written by the worker. Of this stream only once `request_id` is its own.
struct StreamProgress {
  alignas(kSharedAlignment) std::atomic<uint64_t> request_id;
  // Items before it have been used, and their blocks are free. SYNC: stream_item_taken
  std::atomic<uint64_t> items_taken;
};
static_assert(sizeof(StreamProgress) == 128);
static_assert(offsetof(StreamProgress, items_taken) == 8);

// The block that a stream's progress and the text of its end need.
inline constexpr uint32_t kStreamEndBytes = sizeof(StreamProgress) + 4096;

}  // namespace baton::ipc

#endif  // BATON_IPC_STREAM_LAYOUT_H_

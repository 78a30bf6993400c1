// The streams of one channel.
//
// A stream is the slot of its start (user side kPending until its end is known),
// and up to `window` slots for responses, each of which goes round:
//   kLent (a credit names its block: the worker's) -> kArrived -> kLeased (a
//   Response) -> kLent
// It holds window + 1 places of the ring until its last completion was read, or
// its worker was reaped; no block that the worker may use is freed before.
//
// Thread safety: none; as ChannelCore, of which it is a part.
//
// Invariants
// 1. credits - responses <= window, and window + 1 places are taken: every
//    completion of the stream has room (ipc/DESIGN.md, Rings).
// 2. items - items_taken <= window; an item's block is freed when the worker has
//    said that it has taken it.
#ifndef BATON_RUNTIME_FRONT_FRONT_STREAMS_H_
#define BATON_RUNTIME_FRONT_FRONT_STREAMS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/stream.h"
#include "ipc/block_allocator.h"
#include "ipc/channel_layout.h"
#include "ipc/stream_layout.h"

namespace baton::internal {

class ChannelCore;
struct PlanRep;

struct FrontStream {
  struct SentItem {
    ipc::BlockAllocator::Block block;
    const PlanRep* plan = nullptr;
    std::unique_ptr<PlanRep> own_plan;  // where it is no other's
  };
  uint32_t start = 0;  // its slot
  uint32_t window = 0;
  const PlanRep* plan = nullptr;
  ipc::StreamWindow* shared = nullptr;
  const ipc::StreamProgress* progress = nullptr;

  std::vector<uint32_t> slots;    // of responses; at most window
  std::vector<uint32_t> lent;     // by credit mod window
  std::vector<uint32_t> arrived;  // by arrival mod window
  std::vector<uint32_t> idle;     // of slots: without a block, as there was none large enough
  uint64_t credits = 0;
  uint64_t responses = 0;  // credits used
  uint64_t arrivals = 0;
  uint64_t read = 0;  // of arrivals

  std::vector<SentItem> sent;  // by item mod window
  uint64_t items = 0;
  uint64_t items_taken = 0;
  bool items_done = false;
  bool wants_room = false;  // a Write found none

  bool in_ring = true;   // its last completion is still to come
  bool has_user = true;  // the Stream is there
  bool ended = false;    // `end` is known
  bool end_read = false;
  absl::Status end;
};

class FrontStreams {
 public:
  // `core` is what this belongs to.
  explicit FrontStreams(ChannelCore& core) : core_(core) {}

  // Of the request in `slot`, a loan that is the stream's when it is OK.
  absl::StatusOr<FrontStream*> Open(uint32_t slot, const StreamOptions& options);
  // The slot of a response, now leased; or what is there instead.
  struct Reading {
    Stream::Found found = Stream::Found::kNothing;
    uint32_t slot = 0;
  };
  absl::StatusOr<Reading> Read(FrontStream& stream, absl::Duration timeout);
  // Takes the item in `slot` when it is OK.
  absl::Status Write(FrontStream& stream, uint32_t slot, absl::Duration timeout);
  absl::Status WritesDone(FrontStream& stream);
  void Cancel(FrontStream& stream);
  // Its user is gone.
  void Close(FrontStream& stream);

  // The core goes: what is secret in items that the worker may still have is overwritten.
  void Abandon();

  bool empty() const { return streams_.empty(); }
  // Whether anything can be read, or be written again.
  bool AnyReady();

  // ---- from the core
  void Complete(FrontStream& stream, const ipc::CompletionEntry& entry);
  // The user side of the start's slot has ended.
  void Finish(FrontStream& stream, absl::Status status);
  // The worker has no more to do with it. `stream` may be gone afterwards.
  void RingEnded(FrontStream& stream);
  // A Response of `stream` has gone.
  void Returned(FrontStream& stream, uint32_t slot);

 private:
  absl::Status CheckOpen(uint32_t slot, const StreamOptions& options, int64_t now) const;
  std::optional<uint32_t> LoanResponse(FrontStream& stream);
  bool GiveBlock(FrontStream& stream, uint32_t slot);
  void Lend(FrontStream& stream, uint32_t slot);
  void LendIdle(FrontStream& stream);
  void FreeSlot(FrontStream& stream, uint32_t slot);
  void Arrive(FrontStream& stream, uint32_t slot, const ipc::CompletionEntry& entry);
  void Enlarge(FrontStream& stream, uint32_t slot, uint64_t needed_bytes);
  void End(FrontStream& stream, const ipc::CompletionEntry& entry);
  // Frees what the worker has taken. False: what it says cannot be.
  bool TakeItemsBack(FrontStream& stream);
  void FreeItems(FrontStream& stream, uint64_t until);
  void WakeWorker() const;
  void Forget(FrontStream& stream);

  ChannelCore& core_;
  std::vector<std::unique_ptr<FrontStream>> streams_;
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_FRONT_STREAMS_H_

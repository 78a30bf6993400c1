// One request of a channel, and everything that is known of it.
//
// A slot is one request from its loan to the end of its response's lease. It
// has two sides, and is free when both have ended:
//   ring side   `outstanding` from submit until its last completion was read, or
//               its worker was reaped; no block of it is loaned again before
//   user side   kLoaned -> kPending -> kReady -> kLeased -> kNone
//               (a Request; waiting; an Outcome to give; a Response)
// A deadline or a Cancel ends the user side alone. A bound slot goes round:
// kLoaned or kLeased -> kPending -> kReady -> one of the two, until Unbind.
//
// Thread safety: belongs to its channel's thread.
#ifndef BATON_RUNTIME_FRONT_CHANNEL_SLOT_H_
#define BATON_RUNTIME_FRONT_CHANNEL_SLOT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"

#include "baton/tensor.h"
#include "ipc/block_allocator.h"
#include "runtime/front/plan_rep.h"
#include "runtime/front/response_layouts.h"

namespace baton::internal {

class LeasedArena;
struct FrontStream;

inline constexpr uint32_t kNoSlot = ~0u;

// The last two are of a stream's responses: see FrontStreams.
enum class SlotUser : uint8_t { kNone, kLoaned, kPending, kReady, kLeased, kLent, kArrived };

struct ChannelSlot {
  uint64_t id = 0;  // serial << kSlotBits | index
  const PlanRep* plan = nullptr;
  std::unique_ptr<PlanRep> own_plan;  // where it is no other's
  SlotUser user = SlotUser::kNone;
  bool outstanding = false;
  bool has_request = false;
  bool has_response = false;
  bool has_device = false;
  bool listed = false;  // goes to ready_ when it ends (not a Call)
  bool idempotent = false;
  bool retried = false;           // after its worker's death
  bool withdrawn = false;         // cancelled because of a hold; taken or not, the worker decides
  uint8_t resubmits = 0;          // with a larger response block
  bool kept = false;              // answered, and the model keeps its inputs
  bool bound = false;             // its blocks, and its last answer's layout, stay until Unbind
  uint64_t tag = 0;               // the user's own name for it
  uint32_t places = 1;            // of the ring
  FrontStream* stream = nullptr;  // whose start, or response, this is
  bool parked = false;            // given back by a worker that does not have its inputs
  bool has_inputs = false;        // on the device
  uint32_t inputs = 0;            // their entry of inputs_
  uint64_t input_offset = 0;      // in the arena
  uint64_t refused_by = 0;        // parked: the generation
  LeasedArena* input_arena = nullptr;  // leased until they are submitted
  ipc::BlockAllocator::Block request;
  ipc::BlockAllocator::Block response;
  ipc::BlockAllocator::Block device;
  LeasedArena* arena = nullptr;  // leased for results that lie there
  uint64_t sequence = 0;
  int64_t deadline_ns = 0;
  absl::Status status;  // kReady: how it ended; withdrawn: how it ends unless it was started
  ResponseLayout* layout = nullptr;
  std::vector<TensorView> views;
  uint64_t views_of = 0;  // the serial of the layout that they show; 0: of none
  uint32_t views_in = 0;  // the granule of the block that they are in
  uint64_t generation = 0;
  uint64_t service_ns = 0;
  uint32_t next = kNoSlot;  // free list or ready list
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_CHANNEL_SLOT_H_

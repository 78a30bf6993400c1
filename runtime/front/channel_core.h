// What is behind a Channel: the rings, the allocators, and the table of every
// request that is alive.
//
// Thread safety: none; one thread at a time.
//
// Slots, and their two sides: channel_slot.h.
//
// Invariants
// 1. Outstanding slots take at most ring_entries places (a stream several), so
//    both rings always have room, and a completion always has somewhere to go.
// 2. Whatever is read from the completion segment is copied, then checked;
//    what cannot be poisons the channel.
// 3. handles_ counts the user's Channel, Requests and Responses; the core goes
//    with the last one.
#ifndef BATON_RUNTIME_FRONT_CHANNEL_CORE_H_
#define BATON_RUNTIME_FRONT_CHANNEL_CORE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/channel.h"
#include "ipc/block_allocator.h"
#include "ipc/channel_layout.h"
#include "ipc/cycle_clock.h"
#include "ipc/descriptor.h"
#include "ipc/ring.h"
#include "ipc/segment.h"
#include "ipc/spin_budget.h"
#include "runtime/front/channel_slot.h"
#include "runtime/front/front_streams.h"
#include "runtime/front/plan_rep.h"
#include "runtime/front/response_layouts.h"
#include "runtime/front/session.h"

namespace baton::internal {

// After so many requests in a row that had the ring to themselves a front says that they come one
// at a time.
inline constexpr uint32_t kAloneInARow = 8;

class ChannelCore {
 public:
  static absl::StatusOr<ChannelCore*> Open(std::shared_ptr<Session> session,
                                           const ChannelOptions& options);
  // As Open, in the handle that its user gets.
  static absl::StatusOr<Channel> OpenChannel(std::shared_ptr<Session> session,
                                             const ChannelOptions& options);

  // `item`: of a stream of that method.
  absl::StatusOr<const PlanRep*> Plan(std::span<const TensorSpec> inputs,
                                      const PlanOptions& options, bool item = false);
  absl::StatusOr<const PlanRep*> DefaultPlan();
  absl::StatusOr<uint32_t> Loan(const PlanRep& plan);
  // Plans and loans; of a plan of its own where no more can be kept.
  absl::StatusOr<uint32_t> LoanNew(std::span<const TensorSpec> inputs, const PlanOptions& options,
                                   bool item = false);

  // Both leave the slot a loan when they fail.
  absl::StatusOr<uint64_t> Submit(uint32_t slot, const CallOptions& options);
  absl::StatusOr<uint32_t> Call(uint32_t slot, const CallOptions& options, bool* accepted);

  // Bound requests (channel_bound.cc): slots whose blocks stay until Unbind.
  absl::StatusOr<uint32_t> Bind(const PlanRep& plan);
  void Unbind(uint32_t slot);
  absl::StatusOr<uint64_t> SubmitBound(uint32_t slot, const CallOptions& options, uint64_t tag);
  absl::Status CallBound(uint32_t slot, const CallOptions& options);
  void ReleaseBoundAnswer(uint32_t slot);
  bool BoundUnderWay(uint32_t slot) const {
    return slots_[slot].user == User::kPending || slots_[slot].user == User::kReady;
  }
  std::span<const TensorView> BoundOutputs(uint32_t slot) const {
    return slots_[slot].user == User::kLeased ? Outputs(slot) : std::span<const TensorView>();
  }

  // Loans, or bound requests, at once: how many of the first `count` were accepted;
  // the rest are as before. An error: none was.
  struct Submission {
    uint32_t slot = 0;
    uint64_t tag = 0;
  };
  absl::StatusOr<size_t> SubmitBatch(size_t count, absl::FunctionRef<Submission(size_t)> nth,
                                     const CallOptions& options);

  // A slot whose user side is kReady, now the caller's (see TakeOutcome); kNoSlot: there is none.
  uint32_t Poll();
  uint32_t Wait(absl::Duration timeout);
  void Prefetch() const { completions_.Prefetch(); }
  // Poll in two steps, the second as often as wanted. False: there is nothing to look at.
  bool LookForOutcomes();
  uint32_t NextOutcome();
  // Its ticket and status; the slot is leased when the status is OK.
  Ticket ticket(uint32_t slot) const { return {slots_[slot].id}; }
  bool is_bound(uint32_t slot) const { return slots_[slot].bound; }
  uint64_t tag(uint32_t slot) const { return slots_[slot].tag; }
  absl::Status TakeOutcome(uint32_t slot);

  absl::Status Cancel(uint64_t id);
  absl::StatusOr<DeviceLease> LeaseDevice() const;
  bool Arm();
  void ClearEvent();
  int event_fd() const { return event_.get(); }

  // User handles.
  void AddHandle() { ++handles_; }
  void DropHandle();
  void CloseChannel();
  void ReleaseRequest(uint32_t slot);
  void ReleaseResponse(uint32_t slot);

  const PlanRep& plan(uint32_t slot) const { return *slots_[slot].plan; }
  std::span<std::byte> InputBytes(uint32_t slot, size_t index) const;
  TensorView InputView(uint32_t slot, size_t index) const;
  // Whose arena its inputs are written to; 0: they are in the request's block.
  uint64_t InputGeneration(uint32_t slot) const;
  std::span<const TensorView> Outputs(uint32_t slot) const { return slots_[slot].views; }
  uint64_t generation(uint32_t slot) const { return slots_[slot].generation; }
  uint64_t service_ns(uint32_t slot) const { return slots_[slot].service_ns; }

  FrontStreams& streams() { return streams_; }
  const std::vector<Method>& methods() const { return session_->methods(); }
  uint32_t unfinished() const { return unfinished_; }
  uint64_t free_request_bytes() const { return requests_.free_granules() * ipc::kGranuleBytes; }
  uint64_t free_response_bytes() const { return responses_.free_granules() * ipc::kGranuleBytes; }
  PageKind page_kind() const { return page_kind_; }

 private:
  friend class FrontStreams;
  static constexpr uint32_t kNoSlot = internal::kNoSlot;
  static constexpr uint32_t kPollsPerCheck = 64;
  static constexpr uint32_t kSlotBits = 20;
  static constexpr int kMaxResubmits = 3;

  using User = SlotUser;
  using Slot = ChannelSlot;

  ChannelCore(std::shared_ptr<Session> session, const ChannelOptions& options,
              ipc::Segment submission, const ipc::SegmentPlan& submission_plan,
              ipc::Segment completion, const ipc::SegmentPlan& completion_plan,
              ipc::UniqueFd event);
  ~ChannelCore();

  ipc::FrontState& front_state() const {
    return *reinterpret_cast<ipc::FrontState*>(submission_.data() + sizeof(ipc::SegmentHeader));
  }
  const ipc::WorkerState& worker_state() const {
    return *reinterpret_cast<const ipc::WorkerState*>(completion_.data() +
                                                      sizeof(ipc::SegmentHeader));
  }
  std::byte* RequestBytes(const ipc::BlockAllocator::Block& block) const {
    return submission_.data() + submission_plan_.arena_offset + block.granule * ipc::kGranuleBytes;
  }
  const std::byte* ResponseBytes(const ipc::BlockAllocator::Block& block) const {
    return completion_.data() + completion_plan_.arena_offset + block.granule * ipc::kGranuleBytes;
  }

  absl::Status CheckUsable() const;
  absl::Status CheckPlan(const PlanOptions& options, bool item) const;
  const PlanRep* FindPlan(std::span<const TensorSpec> inputs, const PlanOptions& options,
                          bool item) const;
  absl::StatusOr<std::unique_ptr<PlanRep>> MakePlan(std::span<const TensorSpec> inputs,
                                                    const PlanOptions& options, bool item);
  absl::Status MatchInputs(PlanRep& plan) const;
  absl::Status LayOut(PlanRep& plan) const;
  absl::Status PlanResults(PlanRep& plan) const;
  absl::StatusOr<uint32_t> TryLoan(const PlanRep& plan);

  // Inputs on the device (channel_device_inputs.cc).
  absl::Status OpenInputs(uint64_t slice_offset);
  absl::Status LoanInputs(uint32_t index);
  void SubmitInputs(Slot& slot);
  void EndInputs(Slot& slot);
  // A worker of another generation has given it back: until they have moved.
  bool Park(uint32_t index, const ipc::CompletionEntry& entry);
  void ResumeParked();
  void TellClosed();

  absl::Status CheckHold(int64_t deadline_ns, int64_t now) const;
  static int64_t Deadline(const CallOptions& options, int64_t now);
  // Whether it may be started now: of a method that does not stream, with room in the ring.
  absl::Status CheckStart(Slot& slot);
  absl::Status CheckBound(Slot& slot);
  absl::Status LoanAgain(Slot& slot);
  absl::Status Start(uint32_t slot, const CallOptions& options, int64_t now);
  // Tells the worker when requests begin, or cease, to come one at a time.
  void NotePace(bool alone);
  // From here on it counts as in the ring; to be published next.
  void Enter(uint32_t slot, int64_t deadline_ns);
  void Publish(Slot& slot);
  // After one or more entries were published.
  void Published();
  static void Fill(const Slot& slot, ipc::SubmissionEntry& entry);
  // Publishes it once more. No worker has to do with the slot now.
  void Republish(Slot& slot);

  // Completions.
  bool ReadCompletions();
  void Complete(const ipc::CompletionEntry& entry);
  void CompleteOk(uint32_t index, const ipc::CompletionEntry& entry);
  // What the slot's response block holds. False: it cannot be, the channel is broken.
  bool ReadOutputs(Slot& slot, const ipc::CompletionEntry& entry);
  bool RetryLarger(Slot& slot, const ipc::CompletionEntry& entry);
  // Leases the arena that these results lie in, and points the views there.
  absl::Status LeaseResults(Slot& slot, uint64_t generation);
  // Answers of that generation that were not read. The session's thread asks.
  uint32_t UnreadAnswers(uint64_t generation) const;
  void ForgetResults();
  std::string ErrorText(const Slot& slot, const ipc::CompletionEntry& entry) const;
  // `bytes` of text in the slot's response block, as far as they are there.
  std::string TextAt(const Slot& slot, uint64_t offset, uint64_t bytes) const;

  // Gives a request's block back, its secrets overwritten. No worker has to do with it now.
  void FreeRequest(Slot& slot);
  void FreeRequestBlock(const PlanRep& plan, const ipc::BlockAllocator::Block& block);
  void WipeSecrets(const PlanRep& plan, const ipc::BlockAllocator::Block& block);
  void FreeResponse(Slot& slot);

  // Ends.
  void FinishUser(uint32_t index, absl::Status status);
  void EndRing(uint32_t index);
  void FreeIfDone(uint32_t index);
  void Detach(Slot& slot);  // the user side ended before the ring side: tell the worker
  void FailAll(const absl::Status& status);
  void Poison(const std::string& what);

  // Whether any worker has begun with it, as far as is known.
  static bool WasStarted(const Slot& slot, uint64_t taken);

  // What is looked at when nothing is coming in.
  void CheckRest(int64_t now);
  // Fails at once what waits and cannot survive a hold that has begun.
  void WithdrawForHold(int64_t now);
  // Gets back what nobody has come for: for who finds no room.
  void Reclaim();
  void Settle();
  void LoseBefore(uint64_t boundary);
  void ServerGone();
  void ExpireBefore(int64_t now);

  bool WaitFor(absl::FunctionRef<bool()> done, int64_t now, int64_t deadline_ns);
  template <typename Done>
  bool WaitUntil(Done&& done, int64_t now, int64_t deadline_ns);
  template <typename Done>
  void Sleep(Done&& done, int64_t deadline_ns);
  // Until its user side is kReady, or nothing will come any more: then as a failure.
  void AwaitEnd(Slot& slot, int64_t now);
  void RemoveReady(uint32_t index);

  std::shared_ptr<Session> session_;
  const ChannelOptions options_;
  ipc::Segment submission_;
  ipc::Segment completion_;
  const ipc::SegmentPlan submission_plan_;
  const ipc::SegmentPlan completion_plan_;
  ipc::UniqueFd event_;
  uint64_t channel_ = 0;
  uint64_t slice_offset_ = 0;  // of device_, in the arena of every generation
  PageKind page_kind_ = PageKind::kNormal;

  ipc::RingProducer<ipc::SubmissionEntry> submissions_;
  ipc::RingConsumer<ipc::CompletionEntry> completions_;
  ipc::BlockAllocator requests_;
  ipc::BlockAllocator responses_;
  ipc::BlockAllocator device_;             // the slice for results on the device
  std::shared_ptr<ChannelInputs> inputs_;  // nullptr: none on the device
  ipc::SpinBudget spin_;
  ipc::CycleClock clock_;
  std::vector<std::unique_ptr<ResponseLayouts>> layouts_;  // by method, made when first asked

  FrontStreams streams_{*this};
  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<PlanRep>> plans_;
  uint32_t free_slot_ = kNoSlot;
  uint32_t ready_head_ = kNoSlot;
  uint32_t ready_tail_ = kNoSlot;
  uint64_t next_serial_ = 1;
  uint32_t in_ring_ = 0;         // places of outstanding slots
  uint32_t alone_in_a_row_ = 0;  // requests that had the ring to themselves; up to kAloneInARow
  uint32_t unfinished_ = 0;      // user side pending or ready
  uint32_t handles_ = 0;
  bool closed_ = false;
  bool close_late_ = false;  // the server is told when the last result has gone
  absl::Status broken_;      // why nothing works any more
  int64_t earliest_deadline_ns_ = INT64_MAX;
  uint32_t polls_ = 0;
  uint32_t parked_ = 0;      // slots
  bool armed_ = false;       // an event loop waits on event_
  uint32_t hold_epoch_ = 0;  // of the status page, when holds were looked at last
  uint64_t settled_reaped_ = 0;
  uint64_t settled_resume_ = 0;
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_CHANNEL_CORE_H_

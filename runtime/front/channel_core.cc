#include "runtime/front/channel_core.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/worker_sleep.h"
#include "runtime/front/hold.h"

namespace baton::internal {
namespace {

constexpr int64_t kMaxTimeoutNs = int64_t{24} * 3600 * 1'000'000'000;
constexpr absl::Duration kLongestSpin = absl::Minutes(1);
// Slices of device memory are cut in these.
constexpr uint64_t kDevicePageBytes = 4096;

ipc::SegmentOptions SegmentOf(const ChannelOptions& options, uint64_t bytes) {
  const bool memfd = options.huge_pages || options.backing == ChannelOptions::Backing::kMemfd;
  return {.bytes = bytes,
          .backing = memfd ? ipc::SegmentBacking::kMemfd : ipc::SegmentBacking::kPosixShm,
          .huge_pages = options.huge_pages,
          .numa_node = options.numa_node};
}

}  // namespace

ChannelCore::ChannelCore(std::shared_ptr<Session> session, const ChannelOptions& options,
                         ipc::Segment submission, const ipc::SegmentPlan& submission_plan,
                         ipc::Segment completion, const ipc::SegmentPlan& completion_plan,
                         ipc::UniqueFd event)
    : session_(std::move(session)),
      options_(options),
      submission_(std::move(submission)),
      completion_(std::move(completion)),
      submission_plan_(submission_plan),
      completion_plan_(completion_plan),
      event_(std::move(event)),
      submissions_(
          reinterpret_cast<ipc::SubmissionEntry*>(submission_.data() + submission_plan.ring_offset),
          options.ring_entries, options.first_sequence),
      completions_(reinterpret_cast<const ipc::CompletionEntry*>(completion_.data() +
                                                                 completion_plan.ring_offset),
                   ipc::CompletionEntries(options.ring_entries), options.first_sequence),
      requests_(static_cast<uint32_t>(
                    std::min<uint64_t>(submission_plan.arena_bytes / ipc::kGranuleBytes, ~0u)),
                options.max_handles),
      responses_(static_cast<uint32_t>(
                     std::min<uint64_t>(completion_plan.arena_bytes / ipc::kGranuleBytes, ~0u)),
                 options.max_handles),
      device_(static_cast<uint32_t>(
                  std::clamp<uint64_t>(options.device_result_bytes / ipc::kGranuleBytes, 1, ~0u)),
              options.device_result_bytes > 0 ? options.max_handles : 1),
      spin_(ipc::SpinBudget::ForThisThread(
          absl::ToInt64Nanoseconds(std::min(options.max_spin, kLongestSpin)))),
      layouts_(session_->methods().size()),
      slots_(options.max_handles) {
  for (uint32_t i = options.max_handles; i-- > 0;) {
    slots_[i].id = i;
    slots_[i].next = free_slot_;
    free_slot_ = i;
  }
  // Relaxed: nobody else knows the segment yet.
  front_state().completions_read.store(options.first_sequence, std::memory_order_relaxed);
  settled_reaped_ = session_->status_page().reaped_generation.load(std::memory_order_acquire);
}

absl::StatusOr<ChannelCore*> ChannelCore::Open(std::shared_ptr<Session> session,
                                               const ChannelOptions& options) {
  if (session->forked()) {
    return absl::FailedPreconditionError("this process is a fork: attach a front of its own");
  }
  if (options.max_handles == 0 || options.max_handles > (1u << kSlotBits)) {
    return absl::InvalidArgumentError(absl::StrCat("max_handles is ", options.max_handles,
                                                   ": must be from 1 to ", 1u << kSlotBits));
  }
  if (options.device_result_bytes % kDevicePageBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("device_result_bytes is ",
                                                   options.device_result_bytes,
                                                   ": must be a multiple of ", kDevicePageBytes));
  }
  if (options.device_input_bytes % kDevicePageBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("device_input_bytes is ",
                                                   options.device_input_bytes,
                                                   ": must be a multiple of ", kDevicePageBytes));
  }
  absl::StatusOr<ipc::SegmentPlan> submission_plan =
      ipc::PlanSubmissionSegment(options.ring_entries, options.request_arena_bytes);
  if (!submission_plan.ok()) return submission_plan.status();
  absl::StatusOr<ipc::SegmentPlan> completion_plan = ipc::PlanCompletionSegment(
      ipc::CompletionEntries(options.ring_entries), options.response_arena_bytes);
  if (!completion_plan.ok()) return completion_plan.status();
  absl::StatusOr<ipc::SegmentHandles> submission_handles =
      ipc::CreateSegment(SegmentOf(options, submission_plan->segment_bytes));
  if (!submission_handles.ok()) return submission_handles.status();
  absl::StatusOr<ipc::SegmentHandles> completion_handles =
      ipc::CreateSegment(SegmentOf(options, completion_plan->segment_bytes));
  if (!completion_handles.ok()) return completion_handles.status();

  absl::StatusOr<ipc::Segment> submission =
      ipc::Segment::Map(submission_handles->read_write.get(), submission_plan->segment_bytes,
                        ipc::SegmentAccess::kReadWrite);
  if (!submission.ok()) return submission.status();
  ipc::InitSubmissionSegment(submission->data(), *submission_plan, options.ring_entries,
                             options.first_sequence);
  {
    // Writable only here, before any worker knows it.
    absl::StatusOr<ipc::Segment> writable =
        ipc::Segment::Map(completion_handles->read_write.get(), completion_plan->segment_bytes,
                          ipc::SegmentAccess::kReadWrite);
    if (!writable.ok()) return writable.status();
    ipc::InitCompletionSegment(writable->data(), *completion_plan,
                               ipc::CompletionEntries(options.ring_entries),
                               options.first_sequence);
  }
  absl::StatusOr<ipc::Segment> completion =
      ipc::Segment::Map(completion_handles->read_only.get(), completion_plan->segment_bytes,
                        ipc::SegmentAccess::kReadOnly);
  if (!completion.ok()) return completion.status();
  ipc::UniqueFd event;
  if (options.event_fd) {
    absl::StatusOr<ipc::UniqueFd> made = ipc::CreateEventFd();
    if (!made.ok()) return made.status();
    event = *std::move(made);
  }
  const absl::StatusOr<Session::OpenedChannel> opened =
      session->OpenChannel({.submission = submission_handles->read_only.get(),
                            .completion = completion_handles->read_write.get(),
                            .event = event.get(),
                            .ring_entries = options.ring_entries,
                            .submission_bytes = submission_plan->segment_bytes,
                            .completion_bytes = completion_plan->segment_bytes,
                            .device_bytes = options.device_result_bytes,
                            .device_input_bytes = options.device_input_bytes});
  if (!opened.ok()) return opened.status();
  auto* core =
      new ChannelCore(std::move(session), options, *std::move(submission), *submission_plan,
                      *std::move(completion), *completion_plan, std::move(event));
  core->channel_ = opened->channel;
  core->slice_offset_ = opened->device_offset;
  core->page_kind_ = std::min(submission_handles->pages, completion_handles->pages);
  core->AddHandle();
  if (options.device_result_bytes > 0) {
    core->session_->AddResultChannel(
        core->channel_, [core](uint64_t generation) { return core->UnreadAnswers(generation); });
    // On a GPU the first import makes a context, which takes its time.
    if (absl::Status imported = core->session_->AwaitImport(); !imported.ok()) {
      core->CloseChannel();
      return imported;
    }
  }
  if (absl::Status status = core->OpenInputs(opened->device_input_offset); !status.ok()) {
    core->CloseChannel();
    return status;
  }
  return core;
}

// Nobody reads answers any more: none of them keeps device memory.
void ChannelCore::ForgetResults() {
  if (options_.device_result_bytes > 0) session_->RemoveResultChannel(channel_);
}

ChannelCore::~ChannelCore() {
  ForgetResults();
  if (close_late_) TellClosed();
  streams_.Abandon();
  // Answers that nobody asked for.
  for (Slot& slot : slots_) {
    if (slot.layout != nullptr) ResponseLayouts::Release(slot.layout);
    if (slot.has_request) FreeRequest(slot);
  }
}

absl::StatusOr<Channel> ChannelCore::OpenChannel(std::shared_ptr<Session> session,
                                                 const ChannelOptions& options) {
  absl::StatusOr<ChannelCore*> core = Open(std::move(session), options);
  if (!core.ok()) return core.status();
  return Channel(*core);
}

absl::Status ChannelCore::CheckUsable() const {
  if (session_->forked()) {
    return absl::FailedPreconditionError(
        "this channel belongs to the parent process: after a fork, "
        "attach a front of its own");
  }
  return broken_;
}

absl::StatusOr<DeviceLease> ChannelCore::LeaseDevice() const {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  return Session::Lease(session_, channel_);
}

// ---- Loans -------------------------------------------------------------------------------------

absl::StatusOr<uint32_t> ChannelCore::Loan(const PlanRep& plan) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  absl::StatusOr<uint32_t> slot = TryLoan(plan);
  if (slot.ok()) return slot;
  Reclaim();
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  return TryLoan(plan);
}

void ChannelCore::Reclaim() {
  // The blocks of a call that timed out come back with its completion, or with
  // its worker's death. A caller who never polls looks for neither elsewhere.
  ReadCompletions();
  CheckRest(clock_.NowNs());
}

absl::StatusOr<uint32_t> ChannelCore::TryLoan(const PlanRep& plan) {
  if (free_slot_ == kNoSlot) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", slots_.size(),
                     " handles of this channel are in use: release responses, "
                     "or open it with more max_handles"));
  }
  const uint32_t index = free_slot_;
  Slot& slot = slots_[index];
  if (!requests_.Allocate(plan.request_granules, &slot.request)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the request arena has no block of ", plan.request_granules * ipc::kGranuleBytes,
        " bytes free now (", free_request_bytes(), " of ", submission_plan_.arena_bytes,
        "): wait for answers, or open the channel with more request_arena_bytes"));
  }
  const bool has_response = !plan.item;
  if (has_response && !responses_.Allocate(plan.response_granules, &slot.response)) {
    requests_.Free(slot.request);
    return absl::ResourceExhaustedError(absl::StrCat(
        "the response arena has no block of ", plan.response_granules * ipc::kGranuleBytes,
        " bytes free now (", free_response_bytes(), " of ", completion_plan_.arena_bytes,
        "): release responses, or open the channel with more response_arena_bytes"));
  }
  if (plan.on_device && !device_.Allocate(plan.device_granules, &slot.device)) {
    requests_.Free(slot.request);
    if (has_response) responses_.Free(slot.response);
    return absl::ResourceExhaustedError(absl::StrCat(
        "this channel's device memory has no block of ", plan.device_granules * ipc::kGranuleBytes,
        " bytes free now (", device_.free_granules() * ipc::kGranuleBytes, " of ",
        options_.device_result_bytes,
        "): release responses, or open the channel with more device_result_bytes"));
  }
  if (!has_response) slot.response = {};
  if (!plan.on_device) slot.device = {};
  free_slot_ = slot.next;
  slot.next = kNoSlot;
  slot.plan = &plan;
  slot.user = User::kLoaned;
  slot.has_request = true;
  slot.has_response = has_response;
  slot.idempotent = slot.kept = slot.bound = false;
  slot.tag = 0;
  slot.places = 1;
  slot.stream = nullptr;
  slot.has_device = plan.on_device;
  std::byte* block = RequestBytes(slot.request);
  // Relaxed: the entry that names this block is published later.
  auto* const header = reinterpret_cast<ipc::RequestBlockHeader*>(block);
  header->cancelled.store(0, std::memory_order_relaxed);
  header->input_granules.store(0, std::memory_order_relaxed);
  std::memcpy(block + ipc::kBlockHeaderBytes, plan.descriptor.data(), plan.descriptor.size());
  AddHandle();
  if (absl::Status status = LoanInputs(index); !status.ok()) {
    ReleaseRequest(index);
    return status;
  }
  return index;
}

std::span<std::byte> ChannelCore::InputBytes(uint32_t slot, size_t index) const {
  const PlanRep& plan = *slots_[slot].plan;
  if (index >= plan.layouts.size() || session_->forked()) return {};
  if (slots_[slot].has_inputs) {
    if (slots_[slot].input_arena == nullptr) return {};
    return slots_[slot].input_arena->arena().Writable(
        slots_[slot].input_offset + plan.layouts[index].offset, plan.layouts[index].bytes);
  }
  return {RequestBytes(slots_[slot].request) + plan.layouts[index].offset,
          plan.layouts[index].bytes};
}

// ---- Submitting --------------------------------------------------------------------------------

absl::Status ChannelCore::CheckHold(int64_t deadline_ns, int64_t now) const {
  const std::optional<Hold> hold = ReadHold(session_->status_page(), now);
  if (!hold || deadline_ns >= hold->until_ns) return absl::OkStatus();
  return NotBeforeTheHoldEnds(session_->server(), *hold, now);
}

int64_t ChannelCore::Deadline(const CallOptions& options, int64_t now) {
  return now + std::clamp<int64_t>(absl::ToInt64Nanoseconds(options.timeout), 0, kMaxTimeoutNs);
}

absl::Status ChannelCore::CheckStart(Slot& slot) {
  if (!slot.bound && methods()[slot.plan->method].streams()) {
    return absl::InvalidArgumentError(absl::StrCat("method '", methods()[slot.plan->method].name,
                                                   "' streams: open a stream of it "
                                                   "(Channel::OpenStream)"));
  }
  if (in_ring_ == options_.ring_entries) {
    return absl::ResourceExhaustedError(absl::StrCat("the ring is full: ", in_ring_,
                                                     " requests are outstanding. Poll for answers, "
                                                     "or open the channel with more ring_entries"));
  }
  return slot.bound ? CheckBound(slot) : absl::OkStatus();
}

absl::Status ChannelCore::Start(uint32_t index, const CallOptions& options, int64_t now) {
  Slot& slot = slots_[index];
  if (in_ring_ == options_.ring_entries || slot.outstanding) {
    Reclaim();
    if (absl::Status status = CheckUsable(); !status.ok()) return status;
  }
  if (absl::Status status = CheckStart(slot); !status.ok()) return status;
  const int64_t deadline = Deadline(options, now);
  if (absl::Status status = CheckHold(deadline, now); !status.ok()) return status;
  slot.idempotent = options.idempotent;
  Enter(index, deadline);
  Publish(slot);
  return absl::OkStatus();
}

void ChannelCore::NotePace(bool alone) {
  // A change costs both sides a line, so alone counts when it has lasted. Relaxed: advice.
  if (alone) {
    if (alone_in_a_row_ == kAloneInARow || ++alone_in_a_row_ < kAloneInARow) return;
    front_state().one_at_a_time.store(1, std::memory_order_relaxed);
  } else if (std::exchange(alone_in_a_row_, 0) == kAloneInARow) {
    front_state().one_at_a_time.store(0, std::memory_order_relaxed);
  }
}

void ChannelCore::Enter(uint32_t index, int64_t deadline) {
  Slot& slot = slots_[index];
  if (slot.bound) {
    ReleaseBoundAnswer(index);
    // What its last submit left. Looked at first: the line is the worker's to read, too.
    // Relaxed: the entry is published later.
    auto* header = reinterpret_cast<ipc::RequestBlockHeader*>(RequestBytes(slot.request));
    if (header->cancelled.load(std::memory_order_relaxed) != 0) {
      header->cancelled.store(0, std::memory_order_relaxed);
    }
  }
  slot.deadline_ns = deadline;
  slot.kept = false;
  slot.retried = false;
  slot.withdrawn = false;
  slot.resubmits = 0;
  slot.id = next_serial_++ << kSlotBits | index;
  slot.user = User::kPending;
  slot.outstanding = true;
  NotePace(in_ring_ == 0);
  in_ring_ += slot.places;
  if (slot.stream == nullptr) ++unfinished_;
  earliest_deadline_ns_ = std::min(earliest_deadline_ns_, deadline);
  if (slot.has_inputs) SubmitInputs(slot);
}

void ChannelCore::Fill(const Slot& slot, ipc::SubmissionEntry& entry) {
  entry.request_id = slot.id;
  entry.deadline_ns = slot.deadline_ns;
  entry.descriptor_token = slot.plan->token;
  entry.request_granule = slot.request.granule;
  entry.request_granules = slot.request.granules;
  entry.response_granule = slot.response.granule;
  entry.response_granules = slot.response.granules;
  entry.descriptor_bytes = static_cast<uint32_t>(slot.plan->descriptor.size());
  const bool streams = slot.stream != nullptr;
  entry.kind = static_cast<uint16_t>(streams           ? ipc::RequestKind::kStream
                                     : slot.has_inputs ? ipc::RequestKind::kInferOnDevice
                                                       : ipc::RequestKind::kInfer);
  entry.method = static_cast<uint16_t>(slot.plan->method);
  entry.device_granule = slot.has_device ? slot.device.granule : 0;
  entry.device_granules = slot.has_device ? slot.device.granules : 0;
  if (streams) {
    entry.device_granule = slot.plan->window_granule;
    entry.device_granules = slot.stream->window;
  }
}

void ChannelCore::Publish(Slot& slot) {
  BATON_CRASH_POINT("front.block_filled");
  slot.sequence = submissions_.Publish([&](ipc::SubmissionEntry& entry) {
    Fill(slot, entry);
    BATON_CRASH_POINT("front.entry_filled");
  });
  BATON_CRASH_POINT("front.entry_published");
  Published();
}

void ChannelCore::Published() {
  // More answers are there: whoever takes one submits again, mostly. Not before: a worker that has
  // nothing else to do looks at that line.
  if (ready_head_ != kNoSlot) submissions_.Prefetch();
  ipc::WakeWorkerIfSleeping(session_->worker_page().sleeping, session_->doorbell_fd());
}

void ChannelCore::Republish(Slot& slot) {
  // Whoever saw this flag has answered, or is dead. Relaxed: the entry is
  // published after it.
  auto* header = reinterpret_cast<ipc::RequestBlockHeader*>(RequestBytes(slot.request));
  header->cancelled.store(0, std::memory_order_relaxed);
  slot.withdrawn = false;
  Publish(slot);
}

absl::StatusOr<uint64_t> ChannelCore::Submit(uint32_t index, const CallOptions& options) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  if (absl::Status status = Start(index, options, clock_.NowNs()); !status.ok()) return status;
  slots_[index].listed = true;
  --handles_;  // the Request's; the core stays with its Channel
  return slots_[index].id;
}

// ---- Handles -----------------------------------------------------------------------------------

void ChannelCore::DropHandle() {
  if (--handles_ > 0) return;
  // In a fork the mappings are not there, and something else may be.
  if (session_->forked()) return;
  delete this;
}

void ChannelCore::CloseChannel() {
  closed_ = true;
  if (broken_.ok()) broken_ = absl::FailedPreconditionError("the channel is closed");
  ForgetResults();
  // Its slice may go to another channel as soon as the server knows.
  close_late_ = device_.loaned_blocks() > 0 || (inputs_ != nullptr && inputs_->filling() > 0);
  if (!close_late_) TellClosed();
  DropHandle();
}

void ChannelCore::ReleaseRequest(uint32_t index) {
  slots_[index].user = User::kNone;
  FreeIfDone(index);
  DropHandle();
}

void ChannelCore::ReleaseResponse(uint32_t index) {
  slots_[index].user = User::kNone;
  if (slots_[index].stream != nullptr && !session_->forked()) {
    streams_.Returned(*slots_[index].stream, index);
  } else {
    FreeIfDone(index);
  }
  DropHandle();
}

void ChannelCore::WipeSecrets(const PlanRep& plan, const ipc::BlockAllocator::Block& block) {
  for (const uint32_t index : plan.secrets) {
    const ipc::TensorLayout& secret = plan.layouts[index];
    ::explicit_bzero(RequestBytes(block) + secret.offset, secret.bytes);
  }
}

void ChannelCore::FreeRequestBlock(const PlanRep& plan, const ipc::BlockAllocator::Block& block) {
  WipeSecrets(plan, block);
  requests_.Free(block);
}

void ChannelCore::FreeRequest(Slot& slot) {
  FreeRequestBlock(*slot.plan, slot.request);
  slot.has_request = false;
}

void ChannelCore::FreeResponse(Slot& slot) {
  if (slot.has_response) responses_.Free(slot.response);
  if (slot.has_device) device_.Free(slot.device);
  slot.has_response = slot.has_device = false;
  if (slot.arena != nullptr) session_->ReturnLease(std::exchange(slot.arena, nullptr), channel_);
  if (slot.layout != nullptr) ResponseLayouts::Release(std::exchange(slot.layout, nullptr));
}

void ChannelCore::FreeIfDone(uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.user != User::kNone) return;
  // Where the model keeps the inputs, the worker has done with the rest.
  if (!slot.outstanding || slot.kept) FreeResponse(slot);
  if (slot.outstanding) return;
  if (slot.has_request) FreeRequest(slot);
  if (slot.has_inputs || slot.input_arena != nullptr) EndInputs(slot);
  slot.own_plan.reset();
  slot.next = free_slot_;
  free_slot_ = index;
}

}  // namespace baton::internal

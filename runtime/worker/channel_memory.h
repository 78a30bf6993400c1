// The two segments of a channel, as its worker sees them: what may be read,
// what may be written, and where blocks are that the front names.
//
// Thread safety: none; belongs to the serving thread once it was handed over.
#ifndef BATON_RUNTIME_WORKER_CHANNEL_MEMORY_H_
#define BATON_RUNTIME_WORKER_CHANNEL_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "ipc/channel_layout.h"
#include "ipc/segment.h"
#include "ipc/unique_fd.h"

namespace baton::runtime {

class ChannelMemory {
 public:
  // `event` is the front's eventfd, where it has one.
  ChannelMemory(ipc::Segment submission, const ipc::SegmentView& submission_view,
                ipc::Segment completion, const ipc::SegmentView& completion_view,
                ipc::UniqueFd event)
      : submission_(std::move(submission)),
        completion_(std::move(completion)),
        submission_view_(submission_view),
        completion_view_(completion_view),
        event_(std::move(event)) {}

  const ipc::FrontState& front() const {
    return *reinterpret_cast<const ipc::FrontState*>(submission_.data() +
                                                     sizeof(ipc::SegmentHeader));
  }
  ipc::WorkerState& worker() const {
    return *reinterpret_cast<ipc::WorkerState*>(completion_.data() + sizeof(ipc::SegmentHeader));
  }
  const ipc::SubmissionEntry* submission_entries() const {
    return reinterpret_cast<const ipc::SubmissionEntry*>(submission_.data() +
                                                         submission_view_.plan.ring_offset);
  }
  ipc::CompletionEntry* completion_entries() const {
    return reinterpret_cast<ipc::CompletionEntry*>(completion_.data() +
                                                   completion_view_.plan.ring_offset);
  }
  uint32_t submission_slots() const { return submission_view_.ring_entries; }
  uint32_t completion_slots() const { return completion_view_.ring_entries; }
  std::span<const std::byte> submission() const {
    return {submission_.data(), submission_.bytes()};
  }
  std::span<const std::byte> completion() const {
    return {completion_.data(), completion_.bytes()};
  }

  // Empty where it is not inside the arena: too short then for a block's header.
  std::span<const std::byte> RequestBlock(uint32_t granule, uint32_t granules) const {
    const uint64_t end = uint64_t{granule} + granules;
    if (end > submission_view_.plan.arena_bytes / ipc::kGranuleBytes) return {};
    return {submission_.data() + submission_view_.plan.arena_offset + granule * ipc::kGranuleBytes,
            granules * ipc::kGranuleBytes};
  }
  // Empty where it is not inside the arena: nothing is written then.
  std::span<std::byte> ResponseBlock(uint32_t granule, uint32_t granules) const {
    const uint64_t end = uint64_t{granule} + granules;
    if (end > completion_view_.plan.arena_bytes / ipc::kGranuleBytes) return {};
    return {completion_.data() + completion_view_.plan.arena_offset + granule * ipc::kGranuleBytes,
            granules * ipc::kGranuleBytes};
  }

  // After something was published that the front may wait for.
  void WakeFront() const {
    // SYNC: front_sleeps. Either this sees the flag, or the front, which looks
    // once more after setting it, sees what was published.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    WakeFrontAfterFence();
  }
  // As WakeFront, where there was a full fence since.
  void WakeFrontAfterFence() const {
    // Relaxed: the fence orders it, and it guards no data.
    const uint32_t sleeping = front().sleeping.load(std::memory_order_relaxed);
    if (sleeping != ipc::kFrontAwake) Wake(sleeping);
  }

 private:
  void Wake(uint32_t sleeping) const;

  ipc::Segment submission_;
  ipc::Segment completion_;
  const ipc::SegmentView submission_view_;
  const ipc::SegmentView completion_view_;
  ipc::UniqueFd event_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CHANNEL_MEMORY_H_

#include "runtime/worker/resume_point.h"

#include <atomic>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "ipc/channel_layout.h"
#include "ipc/ring.h"

namespace baton::runtime {
namespace {

template <typename Entry>
uint64_t StampAt(const Entry* entries, uint64_t slots, uint64_t sequence) {
  return entries[sequence & (slots - 1)].stamp.load(std::memory_order_acquire);
}

}  // namespace

absl::StatusOr<ResumePoint> FindResumePoint(uint64_t channel, const ChannelMemory& memory) {
  const ipc::WorkerState& state = memory.worker();
  const uint64_t entries = memory.submission_slots();
  // SYNC: request_taken. The worker that stored it has been reaped.
  const uint64_t taken = state.taken.load(std::memory_order_acquire);
  const uint64_t at_taken = StampAt(memory.submission_entries(), entries, taken);
  const uint64_t last = taken - 1;
  const uint64_t at_last = StampAt(memory.submission_entries(), entries, last);
  if ((at_taken != taken && at_taken != taken - entries) ||
      (at_last != last && at_last != last + entries)) {
    return absl::DataLossError(absl::StrCat("channel ", channel,
                                            ": the worker before left an impossible position (",
                                            taken, "); the front has to open a new channel"));
  }
  const uint64_t slots = memory.completion_slots();
  const uint64_t published =
      ipc::FindPublished(memory.completion_entries(), memory.completion_slots(),
                         state.published.load(std::memory_order_acquire));
  const uint64_t at_published = StampAt(memory.completion_entries(), slots, published);
  const uint64_t at_previous = StampAt(memory.completion_entries(), slots, published - 1);
  if (at_published != published - slots || at_previous != published - 1) {
    return absl::DataLossError(absl::StrCat("channel ", channel,
                                            ": the worker before left completions that cannot be (",
                                            published, "); the front has to open a new channel"));
  }
  return ResumePoint{.taken = taken, .published = published};
}

}  // namespace baton::runtime

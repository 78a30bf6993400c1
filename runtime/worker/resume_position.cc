#include "runtime/worker/resume_position.h"

#include <atomic>

#include "absl/strings/str_cat.h"

#include "ipc/channel_layout.h"
#include "ipc/ring.h"

namespace baton::runtime {

absl::StatusOr<ResumePosition> FindResumePosition(const ChannelMemory& memory, uint64_t channel) {
  const ipc::WorkerState& state = memory.worker();
  const uint64_t entries = memory.submission_slots();
  // SYNC: request_taken. The worker that stored it has been reaped.
  const uint64_t taken = state.taken.load(std::memory_order_acquire);
  const uint64_t at_taken =
      memory.submission_entries()[taken & (entries - 1)].stamp.load(std::memory_order_acquire);
  const uint64_t last = taken - 1;
  const uint64_t at_last =
      memory.submission_entries()[last & (entries - 1)].stamp.load(std::memory_order_acquire);
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
  const uint64_t at_published =
      memory.completion_entries()[published & (slots - 1)].stamp.load(std::memory_order_acquire);
  const uint64_t at_previous =
      memory.completion_entries()[(published - 1) & (slots - 1)].stamp.load(
          std::memory_order_acquire);
  if (at_published != published - slots || at_previous != published - 1) {
    return absl::DataLossError(absl::StrCat("channel ", channel,
                                            ": the worker before left completions that cannot be (",
                                            published, "); the front has to open a new channel"));
  }
  return ResumePosition{.taken = taken, .published = published};
}

}  // namespace baton::runtime

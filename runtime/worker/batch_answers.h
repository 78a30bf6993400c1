// Answers to the requests of one channel that were in a batch: as many completions
// as there are, and one wake.
//
// Thread safety: none; belongs to the serving thread.
#ifndef BATON_RUNTIME_WORKER_BATCH_ANSWERS_H_
#define BATON_RUNTIME_WORKER_BATCH_ANSWERS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "ipc/pages.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/cancellations.h"
#include "runtime/worker/channel_memory.h"
#include "runtime/worker/completion_writer.h"

namespace baton::runtime {

class BatchAnswers {
 public:
  // All must outlive this.
  BatchAnswers(const ChannelMemory& memory, CompletionWriter& completions,
               Cancellations& cancellations)
      : memory_(memory), completions_(completions), cancellations_(cancellations) {}

  // Whether the caller has given it up: Cancellations::Cancelled, with its conditions.
  bool Cancelled(uint64_t sequence, const ipc::RequestBlockHeader& header) {
    return cancellations_.Cancelled(sequence, header);
  }

  // Publishes the last completion of a request, and wakes nobody. `response` is the
  // block loaned for it.
  void Publish(uint64_t request_id, std::span<std::byte> response, const Answer& answer,
               uint64_t service_ns, ipc::WorkerPage& page);

  // Has the line that the next one goes to brought here meanwhile.
  void Prefetch() const { completions_.Prefetch(); }

  // Wakes the front where something was published since the last call. A full fence
  // comes before it, one for all channels of a batch (SYNC: front_sleeps).
  void WakeAfterFence();

 private:
  const ChannelMemory& memory_;
  CompletionWriter& completions_;
  Cancellations& cancellations_;
  bool wake_due_ = false;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_BATCH_ANSWERS_H_

// Answers to the requests of one channel that were in a batch: as many completions
// as there are, and one wake.
//
// Thread safety: none; belongs to the serving thread.
#ifndef BATON_RUNTIME_WORKER_BATCH_ANSWERS_H_
#define BATON_RUNTIME_WORKER_BATCH_ANSWERS_H_

#include <cstdint>

#include "ipc/pages.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/channel_memory.h"
#include "runtime/worker/completion_writer.h"
#include "runtime/worker/served_call.h"

namespace baton::runtime {

class BatchAnswers {
 public:
  // Both must outlive this.
  BatchAnswers(const ChannelMemory& memory, CompletionWriter& completions)
      : memory_(memory), completions_(completions) {}

  // Publishes the last completion of a request, and wakes nobody.
  void Publish(const RequestPlace& place, const Answer& answer, uint64_t service_ns,
               ipc::WorkerPage& page);

  // Wakes the front where something was published since the last call. A full fence
  // comes before it, one for all channels of a batch (SYNC: front_sleeps).
  void WakeAfterFence();

 private:
  const ChannelMemory& memory_;
  CompletionWriter& completions_;
  bool wake_due_ = false;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_BATCH_ANSWERS_H_

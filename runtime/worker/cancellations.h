// Which requests of one channel their caller has given up.
//
// Thread safety: none; belongs to the serving thread. Cost: a load of a line that the front writes
// only when it cancels, and of the request's own block only after it has cancelled.
#ifndef BATON_RUNTIME_WORKER_CANCELLATIONS_H_
#define BATON_RUNTIME_WORKER_CANCELLATIONS_H_

#include <atomic>
#include <cstdint>

#include "ipc/channel_layout.h"
#include "ipc/ring.h"
#include "runtime/worker/channel_memory.h"

namespace baton::runtime {

class Cancellations {
 public:
  using Submissions = ipc::RingConsumer<ipc::SubmissionEntry>;

  // Both must outlive this. `submissions`: where the channel's requests are taken.
  Cancellations(const ChannelMemory& memory, const Submissions& submissions)
      : memory_(memory), submissions_(submissions) {}

  // Before the first request of this worker is taken. Requests cancelled before this looked are in
  // the ring already.
  void Begin() {
    seen_ = Count();
    check_until_ = RingEnd();
  }

  // Whether the request with `header`, which `sequence` was given to, has been cancelled. It is
  // taken, and a full fence came after that (SYNC: request_cancelled); nothing of it was started.
  bool Cancelled(uint64_t sequence, const ipc::RequestBlockHeader& header) {
    const uint64_t count = Count();
    if (count != seen_) {
      seen_ = count;
      check_until_ = RingEnd();
    }
    // Each by its own number: those that wait in a batch are asked about late.
    if (static_cast<int64_t>(sequence - check_until_) > 0) return false;
    return header.cancelled.load(std::memory_order_acquire) != 0;
  }

 private:
  uint64_t Count() const { return memory_.front().cancellations.load(std::memory_order_acquire); }
  // Whatever may have been cancelled by now was submitted before: no more than a ring of requests
  // waits behind the last one taken.
  uint64_t RingEnd() const { return submissions_.next() + memory_.submission_slots(); }

  const ChannelMemory& memory_;
  const Submissions& submissions_;
  uint64_t seen_ = 0;
  uint64_t check_until_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CANCELLATIONS_H_

// Gathers requests of all channels into batches, and has them run.
//
// Thread safety: none; belongs to the serving thread.
//
// Invariants
// 1. One request of each channel a round: a channel that is full of requests cannot
//    keep those of another out of a batch.
// 2. A batch waits for nothing while a command waits, or anything else has to be done:
//    what has been gathered is run at once. That is looked for before a batch begins,
//    after each wait, after each request that was not put into it, and after 64 channels
//    were asked.
// 3. It never waits past the time at which it has to run so that the earliest deadline
//    of its requests is met, as far as the last batches tell how long that takes.
// 4. Turn leaves no batch behind.
#ifndef BATON_RUNTIME_WORKER_BATCH_GATHERER_H_
#define BATON_RUNTIME_WORKER_BATCH_GATHERER_H_

#include <cstddef>
#include <cstdint>

#include "ipc/pages.h"
#include "loader/batching_policy.h"
#include "loader/model.h"
#include "runtime/worker/batched_call.h"
#include "runtime/worker/channel_server.h"
#include "runtime/worker/serving_host.h"

namespace baton::runtime {

// Whom the requests come from, and who else wants something.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // How many there are. Changes only in the middle of a request that was not put into
  // a batch.
  virtual size_t channels() const = 0;
  // The next one in turn; nullptr: nothing may be taken of it. Never that of another
  // call, unless SetNext.
  virtual ChannelServer* Next() = 0;
  // Whose turn it was when Next gave the last one: for SetNext, to have it again.
  virtual size_t last() const = 0;
  virtual void SetNext(size_t next) = 0;
  // Something else has to be done first: a command waits, or the channels have changed.
  virtual bool interrupted() const = 0;
  // Whether nothing else has to be done while a batch waits for more.
  virtual bool may_wait() const = 0;
  // CLOCK_MONOTONIC.
  virtual int64_t NowNs() = 0;
  // Comes back when a channel has a request, when it is interrupted, and at `until_ns`;
  // may do so for nothing.
  virtual void AwaitRequest(int64_t until_ns) = 0;
};

// How long a batch takes, from when it is run to when all of it is answered.
class BatchDuration {
 public:
  bool known() const { return expected_ns_ > 0; }
  // The last one, or what is left of a longer one before it: an eighth of the difference
  // goes with each batch.
  int64_t expected_ns() const { return expected_ns_; }
  void Observe(int64_t took_ns);

 private:
  int64_t expected_ns_ = 0;
};

class BatchGatherer {
 public:
  explicit BatchGatherer(const loader::BatchingPolicy& policy)
      : max_delay_ns_(policy.max_delay_us * 1000), batch_(policy.max_batch) {}

  // One batch, and what was there that is not batched; false when there was nothing.
  // Comes back between two batches, so that others have their turn.
  bool Turn(BatchSource& source, loader::Model& model, ServingHost& host, ipc::WorkerPage& page);

  // When a batch has to be run whose first request was taken at `first_ns`.
  int64_t RunBy(int64_t first_ns, int64_t earliest_deadline_ns) const;

 private:
  // Fills batch_; whether anything was taken.
  bool Gather(BatchSource& source, loader::Model& model, ipc::WorkerPage& page);

  const int64_t max_delay_ns_;
  BatchedCall batch_;
  BatchDuration duration_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_BATCH_GATHERER_H_

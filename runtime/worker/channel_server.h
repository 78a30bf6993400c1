// The worker's end of one channel: takes requests, runs the model on them in
// place, answers.
//
// Thread safety: belongs to the worker's serving thread, except Map, which may
// run on any thread before the object is handed over.
//
// Invariants
// 1. Nothing is written to the completion segment before Begin: until then an
//    older worker may still be its one writer.
// 2. `taken` is published before a request is started.
// 3. Every taken request gets exactly one last completion, whatever the model
//    does short of dying; before it those that say kCompletionMore: one where
//    the model keeps its inputs, any number of a stream's.
// 4. Every byte read from the submission segment is copied to private memory
//    and checked before it is believed.
#ifndef BATON_RUNTIME_WORKER_CHANNEL_SERVER_H_
#define BATON_RUNTIME_WORKER_CHANNEL_SERVER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/futex.h"
#include "ipc/pages.h"
#include "ipc/ring.h"
#include "ipc/unique_fd.h"
#include "loader/model.h"
#include "runtime/worker/channel_device.h"
#include "runtime/worker/serving_host.h"

namespace baton::runtime {

class BatchedCall;

class ChannelServer {
 public:
  struct Descriptors {
    int submission = -1;  // read-only
    int completion = -1;  // read-write
    int event = -1;       // the front's eventfd, or -1
    uint64_t submission_bytes = 0;
    uint64_t completion_bytes = 0;
    // The channel's slices of what the arena sets aside.
    DeviceSlice results;
    DeviceSlice inputs;
  };

  // Maps and prefaults both segments and checks their headers. The
  // descriptors may be closed afterwards (`event` is duplicated). Refuses
  // other magics, versions and impossible sizes with INVALID_ARGUMENT or
  // FAILED_PRECONDITION.
  static absl::StatusOr<std::unique_ptr<ChannelServer>> Map(uint64_t channel,
                                                            const Descriptors& descriptors);
  virtual ~ChannelServer() = default;

  virtual uint64_t channel() const = 0;

  // Takes over from the generation before: finds where it stopped, and
  // records that for the front. Once, when this worker is told to serve (or
  // when the channel is added while it serves). DATA_LOSS when the positions
  // left behind are impossible: the channel is to be dropped.
  virtual absl::Status Begin(uint64_t generation) = 0;

  // Takes and answers at most one request, or starts a stream, or a call on a thread
  // of its own. Returns whether there was one. Updates the counters, heartbeat and
  // busy_since_ns of `page`. No allocation, no syscall in steady state (unless the
  // front sleeps, or a thread is to be woken).
  virtual bool ServeOne(loader::Model& model, ipc::WorkerPage& page) = 0;

  // As ServeOne, for as long as there are requests and less than kBurstNs has passed:
  // many small ones share a wake and readings of the clock. Returns how many, and,
  // where there were any, when the last ended (CLOCK_MONOTONIC).
  static constexpr int64_t kBurstNs = 1'000;
  virtual size_t ServeBurst(loader::Model& model, ipc::WorkerPage& page, int64_t* now_ns) {
    if (!ServeOne(model, page)) return 0;
    *now_ns = ipc::MonotonicNs();
    return 1;
  }

  // What came of Gather.
  enum class Gathered {
    kNothing,  // no request waits
    kJoined,   // one is in the batch
    kServed,   // one was taken and served as ServeOne does: it cannot be batched, or is bad
    kWaits,    // one waits that does not go with those in the batch; it was not taken
  };
  // As ServeOne, for a worker that batches: takes at most one request into `batch`, where
  // it fits. `now_ns` is CLOCK_MONOTONIC, lately. The same cost but for the model's.
  virtual Gathered Gather(BatchedCall& batch, loader::Model& model, ipc::WorkerPage& page,
                          int64_t now_ns) {
    static_cast<void>(batch), static_cast<void>(now_ns);
    return ServeOne(model, page) ? Gathered::kServed : Gathered::kNothing;
  }

  // Has what Gather looks at first brought into the cache, while others are asked.
  virtual void Prefetch() const {}

  // From now on tensors can lie on the device, and it copies from and to both
  // segments without a bounce, where it can; without a device: no more.
  virtual void UseDevice(const ChannelDevice& device) = 0;

  // Who serves it; before the first of the calls below, and for as long as this lives.
  virtual void Join(ServingHost& host) { static_cast<void>(host); }

  // Tells the front of requests whose inputs the model keeps no longer.
  virtual void ReleaseInputs() {}

  // Has each stream that is under way give one response, if it may, and answers what
  // has ended on a thread of its own. Returns whether any did something. Cost: as
  // ServeOne, for each.
  virtual bool StepCalls(ipc::WorkerPage& page) {
    static_cast<void>(page);
    return false;
  }
  // Whether StepCalls would do something. A load or two a call.
  virtual bool CallsHaveWork() const { return false; }
  // Ends all streams that are under way with `why`; those that have a thread of their
  // own end by StepCalls, when their models let them. Other calls come to their own end.
  virtual void EndCalls(const absl::Status& why, ipc::WorkerPage& page) {
    static_cast<void>(why), static_cast<void>(page);
  }
  // Whether a call of it has a thread of its own: this must live on until StepCalls has
  // brought it back.
  virtual bool on_threads() const { return false; }

  // Whether a request waits. Cheap: one load of a line that only the front
  // writes.
  virtual bool HasWork() const = 0;
  // Where it shows, for who looks again and again; good until something is taken from this
  // channel, or it goes. Without a stamp: only HasWork can tell.
  virtual ipc::NextEntry Next() const { return {}; }
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CHANNEL_SERVER_H_

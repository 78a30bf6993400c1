// A front's end of one channel, reduced to one request at a time.
#ifndef BATON_TESTS_RUNTIME_WORKER_TEST_CHANNEL_H_
#define BATON_TESTS_RUNTIME_WORKER_TEST_CHANNEL_H_

#include <cstdint>
#include <optional>

#include "ipc/channel_layout.h"
#include "ipc/pages.h"
#include "ipc/ring.h"
#include "ipc/segment.h"
#include "tests/runtime/worker/fake_supervisor.h"

namespace baton::runtime {

class TestChannel {
 public:
  TestChannel();

  // Tells the worker about the channel, as call `call`.
  void AddTo(FakeSupervisor& supervisor, uint64_t channel, uint64_t call);

  // Submits x for the scripted model and wakes the worker.
  void Submit(int64_t x, const ipc::WorkerPage& page, int doorbell_fd);
  // Waits for the answer.
  struct Answer {
    uint64_t generation = 0;
    uint16_t status_code = 0;
    int64_t y = 0;
  };
  Answer Take();

  ipc::SegmentHandles& submission() { return submission_; }

 private:
  ipc::SegmentHandles submission_;
  ipc::SegmentHandles completion_;
  ipc::Segment submission_map_;
  ipc::Segment completion_map_;
  ipc::SegmentPlan submission_plan_;
  ipc::SegmentPlan completion_plan_;
  ipc::RingProducer<ipc::SubmissionEntry> requests_;
  ipc::RingConsumer<ipc::CompletionEntry> answers_;
};

}  // namespace baton::runtime

#endif  // BATON_TESTS_RUNTIME_WORKER_TEST_CHANNEL_H_

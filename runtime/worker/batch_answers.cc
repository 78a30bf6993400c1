#include "runtime/worker/batch_answers.h"

#include "ipc/crash_point.h"
#include "runtime/worker/page_counter.h"

namespace baton::runtime {

void BatchAnswers::Publish(uint64_t request_id, std::span<std::byte> response, const Answer& answer,
                           uint64_t service_ns, ipc::WorkerPage& page) {
  BATON_CRASH_POINT("worker.answer_written");
  completions_.Publish({.request_id = request_id, .text = response, .service_ns = service_ns},
                       answer);
  BATON_CRASH_POINT("worker.completion_published");
  wake_due_ = true;
  Bump(answer.dropped ? page.expired : answer.status.ok() ? page.completed : page.failed);
}

void BatchAnswers::WakeAfterFence() {
  if (!wake_due_) return;
  wake_due_ = false;
  memory_.WakeFrontAfterFence();
}

}  // namespace baton::runtime

// The worker's second thread: listens to the supervisor, whatever the model is
// doing on the first.
#ifndef BATON_RUNTIME_WORKER_CONTROL_THREAD_H_
#define BATON_RUNTIME_WORKER_CONTROL_THREAD_H_

#include "runtime/worker/command_queue.h"
#include "runtime/worker/supervisor_link.h"

namespace baton::runtime {

// Starts a detached thread that lives as long as the process. It maps channels
// itself, as that may take long and needs nothing from the serving thread, and
// passes everything else on through `commands`. When the supervisor is gone it
// ends the process at once (kExitSupervisorGone), even while the model is
// stuck: no worker outlives its supervisor (A30). Both must live for good.
void StartControlThread(SupervisorLink& link, CommandQueue& commands);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CONTROL_THREAD_H_

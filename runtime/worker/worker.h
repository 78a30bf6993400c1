// A worker process: one model, one generation, from `start` to `exit`.
//
// The messages and their order are in runtime/DESIGN.md; threads, states and
// what is left at a death in this folder's DESIGN.md.
#ifndef BATON_RUNTIME_WORKER_WORKER_H_
#define BATON_RUNTIME_WORKER_WORKER_H_

#include "ipc/unique_fd.h"

namespace baton::runtime {

// How a worker ends.
enum WorkerExit : int {
  kExitDone = 0,            // told to
  kExitFailed = 1,          // could not start, stage or be admitted; `failed` says why
  kExitUsage = 2,           // not started by a supervisor
  kExitSupervisorGone = 3,  // its control socket closed
};

// Where the supervisor puts the worker's control socket.
inline constexpr int kWorkerControlFd = 3;

// Runs the worker on `control` and ends the process: static destructors of
// frameworks hang or crash too often to be run. Call it on the main thread of
// a process that has no other thread.
[[noreturn]] void RunWorker(ipc::UniqueFd control);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_WORKER_H_

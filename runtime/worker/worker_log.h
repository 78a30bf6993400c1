// Where a worker's log lines go: standard error, which the supervisor hands on
// to its own.
#ifndef BATON_RUNTIME_WORKER_WORKER_LOG_H_
#define BATON_RUNTIME_WORKER_WORKER_LOG_H_

#include <cstdint>
#include <string>

namespace baton::runtime {

// Makes spdlog's default logger one that says which worker speaks, in the
// format of the supervisor's lines:
//   2026-01-31 12:00:00.000 info digits worker g2: message
// One write a line, so that lines of several processes do not mix. Call once,
// before other threads run; logging itself is for any thread.
void InitWorkerLog(const std::string& server, uint64_t generation);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_WORKER_LOG_H_

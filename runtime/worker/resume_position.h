// Where the worker before stopped with a channel.
//
// Thread safety: the serving thread's; the worker before has been reaped.
#ifndef BATON_RUNTIME_WORKER_RESUME_POSITION_H_
#define BATON_RUNTIME_WORKER_RESUME_POSITION_H_

#include <cstdint>

#include "absl/status/statusor.h"

#include "runtime/worker/channel_memory.h"

namespace baton::runtime {

struct ResumePosition {
  uint64_t taken = 0;      // the next request to be taken
  uint64_t published = 0;  // the next completion to be published
};

// Reads it of `memory`, and holds it against the rings' stamps. DATA_LOSS where it
// cannot be; `channel` is for the message.
absl::StatusOr<ResumePosition> FindResumePosition(const ChannelMemory& memory, uint64_t channel);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_RESUME_POSITION_H_

// Where the worker before stopped, as its channel shows it.
//
// Thread safety: none; belongs to the serving thread.
#ifndef BATON_RUNTIME_WORKER_RESUME_POINT_H_
#define BATON_RUNTIME_WORKER_RESUME_POINT_H_

#include <cstdint>

#include "absl/status/statusor.h"

#include "runtime/worker/channel_memory.h"

namespace baton::runtime {

struct ResumePoint {
  uint64_t taken = 0;      // the sequence of the first request that was not taken
  uint64_t published = 0;  // that of the first completion that is not there
};

// Of `channel`, whose worker before has been reaped. DATA_LOSS when the positions that it left are
// impossible: whatever wrote them, going on from there would answer the wrong requests.
absl::StatusOr<ResumePoint> FindResumePoint(uint64_t channel, const ChannelMemory& memory);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_RESUME_POINT_H_

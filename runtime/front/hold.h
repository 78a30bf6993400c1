// A hold, as the status page tells of it: until when requests wait.
#ifndef BATON_RUNTIME_FRONT_HOLD_H_
#define BATON_RUNTIME_FRONT_HOLD_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"

#include "ipc/pages.h"

namespace baton::internal {

struct Hold {
  ipc::ServerState state = ipc::ServerState::kServing;
  int64_t until_ns = 0;  // CLOCK_MONOTONIC, expected
};

// nullopt: nobody holds, or nobody knows for how long, or it takes longer than
// was expected. The page's fields are read one by one: who decides more than a
// new request by it looks at the epoch, too.
std::optional<Hold> ReadHold(const ipc::StatusPage& page, int64_t now);

// UNAVAILABLE, with the time after which to try again (see RetryAfter).
absl::Status NotBeforeTheHoldEnds(std::string_view server, const Hold& hold, int64_t now);

// Adds the payload that RetryAfter reads.
void SetRetryAfter(absl::Status& status, int64_t ns);

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_HOLD_H_

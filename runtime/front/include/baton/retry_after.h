// When to try again, for programs: what an error says in words.
#ifndef BATON_RETRY_AFTER_H_
#define BATON_RETRY_AFTER_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace baton {

// The payload of an UNAVAILABLE status, where it is known when the server is
// expected to serve again: milliseconds from when the status was made, in
// decimal digits.
inline constexpr char kRetryAfterPayload[] = "baton/retry-after-ms";

// That time; nullopt where the status does not say. An expectation, from the
// gaps of reloads before, not a promise.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

}  // namespace baton

#endif  // BATON_RETRY_AFTER_H_

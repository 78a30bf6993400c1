// What a channel's handles say of each other when they do not belong together.
//
// Thread safety: free functions, no state.
#ifndef BATON_RUNTIME_FRONT_HANDLE_ERRORS_H_
#define BATON_RUNTIME_FRONT_HANDLE_ERRORS_H_

#include "absl/status/status.h"

namespace baton::internal {

inline absl::Status MovedFrom() {
  return absl::FailedPreconditionError("this channel was moved from; use the one it was moved to");
}

inline absl::Status NotOurs() {
  return absl::InvalidArgumentError("this request was submitted already, or is another channel's");
}

inline absl::Status EmptyPlan() {
  return absl::InvalidArgumentError("an empty plan: use Channel::Plan");
}

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_HANDLE_ERRORS_H_

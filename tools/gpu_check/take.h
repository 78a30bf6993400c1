// For scripts that fail at their first step that does.
#ifndef BATON_TOOLS_GPU_CHECK_TAKE_H_
#define BATON_TOOLS_GPU_CHECK_TAKE_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton::gpu_check {

// The value; where there is none, an empty one, and `status` says why unless it
// says something already.
template <typename T>
T Take(absl::Status& status, absl::StatusOr<T> from) {
  if (from.ok()) return *std::move(from);
  status.Update(from.status());
  return T();
}

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_TAKE_H_

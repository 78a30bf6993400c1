// Calls of the model's code that may throw.
#ifndef BATON_RUNTIME_WORKER_GUARDED_CALL_H_
#define BATON_RUNTIME_WORKER_GUARDED_CALL_H_

#include <exception>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::runtime {

// Runs `call`, which gives a Status or a StatusOr, and makes INTERNAL of what it throws.
template <typename Call>
auto Guarded(Call&& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("the model threw: ", error.what()));
  } catch (...) {
    return absl::InternalError("the model threw something that is no std::exception");
  }
}

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_GUARDED_CALL_H_

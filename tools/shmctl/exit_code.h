// How shmctl ends, and which error ends it how.
#ifndef BATON_TOOLS_SHMCTL_EXIT_CODE_H_
#define BATON_TOOLS_SHMCTL_EXIT_CODE_H_

#include <string>

#include "absl/status/status.h"

namespace baton::shmctl {

// Scripts rely on the numbers.
enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kNoSuchServer = 3,
};

// An error of whoever typed the command.
absl::Status UsageError(const std::string& message);

// `status`, marked as "there is no such server".
absl::Status NoSuchServer(absl::Status status);

// kDone for OK; kFailed for what was not marked by one of the above.
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_EXIT_CODE_H_

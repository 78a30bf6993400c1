// A probe in a process of its own, for so long and no longer.
//
// Thread safety: any thread.
#ifndef BATON_TOOLS_SHMCTL_PROBE_PROCESS_H_
#define BATON_TOOLS_SHMCTL_PROBE_PROCESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace baton::shmctl {

struct ProbeOutput {
  std::string text;     // what it has written to standard output
  std::string problem;  // empty: it has ended, with exit code 0
};

// Runs this program again with `args`. One that has not ended after `timeout` is
// killed; one that SIGKILL does not end (it hangs in the kernel) is left behind,
// and `problem` says so.
absl::StatusOr<ProbeOutput> RunProbe(const std::vector<std::string>& args, absl::Duration timeout);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_PROBE_PROCESS_H_

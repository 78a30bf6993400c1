// What `shmctl doctor` asks drivers. Each probe runs in a process of its own,
// since any call may hang for as long as the driver likes, and prints each of
// its checks (EncodeCheck) as soon as it has it: of one that hangs is known how
// far it has come.
//
// Thread safety: one probe a process.
#ifndef BATON_TOOLS_SHMCTL_GPU_PROBE_H_
#define BATON_TOOLS_SHMCTL_GPU_PROBE_H_

#include <functional>
#include <string>
#include <vector>

#include "tools/shmctl/doctor_check.h"

namespace baton::shmctl {

struct GpuProbe {
  const char* name;                 // of --probe
  std::vector<const char*> checks;  // what it prints, in order; each may come more than once
  const char* hangs_at;             // in words, for one that does not answer
  // `ordinal`: of the GPU that is asked for; -1: of any. `needed`: a GPU is, so
  // that its absence is a failure.
  void (*run)(int ordinal, bool needed, const std::function<void(const Check&)>& print);
};

// In the order in which they are run; each only where the one before has found
// something.
const std::vector<GpuProbe>& GpuProbes();

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_GPU_PROBE_H_

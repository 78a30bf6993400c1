// Which CPUs a worker's threads run on.
//
// Thread safety: each call is about the calling thread, and those that it starts afterwards.
// Errors: INVALID_ARGUMENT that names `key` of config.yaml, the CPU, and those there are.
#ifndef BATON_RUNTIME_WORKER_CPU_AFFINITY_H_
#define BATON_RUNTIME_WORKER_CPU_AFFINITY_H_

#include <sched.h>

#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton::runtime {

// Whether this thread may run on each of `cpus`; numbers as in /proc/cpuinfo.
absl::Status CheckCpus(std::span<const int> cpus, std::string_view key);
// From now on it runs on these alone. Nothing changes where it may not run on
// one of them, or there are none.
absl::Status UseCpus(std::span<const int> cpus, std::string_view key);

// The CPUs that a thread runs on, for others to run on the same.
class ThreadCpus {
 public:
  static absl::StatusOr<ThreadCpus> OfThisThread();
  absl::Status UseForThisThread() const;

 private:
  cpu_set_t set_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CPU_AFFINITY_H_

// Which memory node of the machine memory is taken from.
//
// A preference is a thread's; threads that it starts inherit it. The kernel takes
// memory elsewhere where the node has none left.
//
// Thread safety: each call is about the calling thread.
// Errors: INVALID_ARGUMENT that names `key` (an option, or a key of config.yaml), the
// node, and those there are; INTERNAL where the system refuses the question, as seccomp
// profiles of containers do.
#ifndef BATON_IPC_NUMA_NODE_H_
#define BATON_IPC_NUMA_NODE_H_

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton::ipc {

// From here on this thread's memory is taken from `node`, numbered as in
// /sys/devices/system/node. Nothing changes where it may not use that.
absl::Status PreferNumaNode(int node, std::string_view key);

// The same until this goes; then the thread's memory is taken from where it was
// before. Belongs to the thread that made it.
class NumaPreference {
 public:
  static absl::StatusOr<NumaPreference> OfThisThread(int node, std::string_view key);
  NumaPreference(NumaPreference&& other) noexcept
      : mode_(other.mode_), nodes_(std::move(other.nodes_)) {
    other.nodes_.clear();
  }
  NumaPreference& operator=(NumaPreference&&) = delete;
  ~NumaPreference();

 private:
  NumaPreference() = default;
  int mode_ = 0;                      // as set_mempolicy has it
  std::vector<unsigned long> nodes_;  // empty: there is nothing to go back to
};

}  // namespace baton::ipc

#endif  // BATON_IPC_NUMA_NODE_H_

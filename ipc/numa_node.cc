#include "ipc/numa_node.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"

namespace baton::ipc {
namespace {

// More than any kernel has: it refuses a shorter mask than its own.
constexpr size_t kMaxNodes = 4096;
constexpr size_t kBitsAWord = sizeof(unsigned long) * CHAR_BIT;

using NodeMask = std::vector<unsigned long>;

NodeMask NoNodes() { return NodeMask(kMaxNodes / kBitsAWord); }

bool Has(const NodeMask& nodes, size_t node) {
  return node < kMaxNodes && ((nodes[node / kBitsAWord] >> (node % kBitsAWord)) & 1) != 0;
}

// Debian's libc has no functions for these, and a library is not worth two calls.
long GetPolicy(int* mode, NodeMask& nodes, unsigned long flags) {
  return ::syscall(SYS_get_mempolicy, mode, nodes.data(), kMaxNodes, nullptr, flags);
}
long SetPolicy(int mode, const NodeMask& nodes) {
  // The kernel takes one less than it is told.
  return ::syscall(SYS_set_mempolicy, mode, nodes.data(), kMaxNodes + 1);
}

absl::Status Refused(std::string_view key, const char* call) {
  return absl::InternalError(
      absl::StrCat(std::string(key), ": ", call, ": errno ", errno,
                   ". A container's seccomp profile may refuse it (CAP_SYS_NICE allows it): leave ",
                   std::string(key), " out there"));
}

// Those that this thread may use; where the kernel knows of no nodes, one.
absl::StatusOr<NodeMask> UsableNodes(std::string_view key) {
  NodeMask usable = NoNodes();
  if (GetPolicy(nullptr, usable, MPOL_F_MEMS_ALLOWED) == 0) return usable;
  if (errno != ENOSYS) return Refused(key, "get_mempolicy");
  usable[0] = 1;
  return usable;
}

absl::Status CheckNode(int node, std::string_view key) {
  const absl::StatusOr<NodeMask> usable = UsableNodes(key);
  if (!usable.ok()) return usable.status();
  if (node >= 0 && Has(*usable, static_cast<size_t>(node))) return absl::OkStatus();
  std::string there;
  for (size_t one = 0; one < kMaxNodes; ++one) {
    if (Has(*usable, one)) absl::StrAppend(&there, there.empty() ? "" : ", ", one);
  }
  return absl::InvalidArgumentError(absl::StrCat(std::string(key), ": NUMA node ", node,
                                                 " is none that this process may use; there are ",
                                                 there));
}

}  // namespace

absl::Status PreferNumaNode(int node, std::string_view key) {
  if (absl::Status usable = CheckNode(node, key); !usable.ok()) return usable;
  NodeMask nodes = NoNodes();
  const auto at = static_cast<size_t>(node);
  nodes[at / kBitsAWord] = 1ul << (at % kBitsAWord);
  // ENOSYS: a kernel for one node, which is this.
  if (SetPolicy(MPOL_PREFERRED, nodes) != 0 && errno != ENOSYS) {
    return Refused(key, "set_mempolicy");
  }
  return absl::OkStatus();
}

absl::StatusOr<NumaPreference> NumaPreference::OfThisThread(int node, std::string_view key) {
  NumaPreference preference;
  NodeMask before = NoNodes();
  if (GetPolicy(&preference.mode_, before, 0) == 0) {
    preference.nodes_ = std::move(before);
  } else if (errno != ENOSYS) {
    return Refused(key, "get_mempolicy");
  }
  // Where this fails nothing has changed, and going back changes nothing either.
  if (absl::Status preferred = PreferNumaNode(node, key); !preferred.ok()) return preferred;
  return preference;
}

NumaPreference::~NumaPreference() {
  if (!nodes_.empty()) SetPolicy(mode_, nodes_);
}

}  // namespace baton::ipc

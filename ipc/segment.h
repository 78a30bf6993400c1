// A segment: one shared-memory object, mapped by this process.
//
// Thread safety: a Segment belongs to one thread at a time; the bytes it maps
// are shared and follow the rules of whoever laid them out.
//
// Invariants
// 1. Exactly one process maps a channel segment writable; the other gets a
//    descriptor that the kernel itself keeps read-only.
// 2. Space is reserved before the segment is mapped, so that a full /dev/shm
//    is an error at open and never a SIGBUS later.
// 3. The name is gone before Create returns; a process killed inside Create
//    leaves a name that says who made it, and SweepStaleSegments removes it.
// 4. Mappings are not inherited by fork (MADV_DONTFORK), descriptors not by
//    exec (O_CLOEXEC).
#ifndef BATON_IPC_SEGMENT_H_
#define BATON_IPC_SEGMENT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "boost/interprocess/mapped_region.hpp"

#include "baton/page_kind.h"
#include "ipc/unique_fd.h"

namespace baton::ipc {

enum class SegmentBacking {
  kPosixShm,  // shm_open under /dev/shm
  kMemfd,     // sealed against truncation; does not count against /dev/shm's size
};

enum class SegmentAccess { kReadOnly, kReadWrite };

struct SegmentOptions {
  uint64_t bytes = 0;  // rounded up to whole pages
  SegmentBacking backing = SegmentBacking::kPosixShm;
  // On huge pages, where there are any: reserved ones, else transparent ones, else
  // normal ones, and SegmentHandles says which. Of a memfd only.
  bool huge_pages = false;
  // The memory node to take the pages from, while it has some (ipc/numa_node.h);
  // -1: as the calling thread does.
  int numa_node = -1;
};

class Segment;

// A segment just made, before it is shared: both descriptors, no mapping.
struct SegmentHandles {
  UniqueFd read_write;
  UniqueFd read_only;
  uint64_t bytes = 0;
  PageKind pages = PageKind::kNormal;
};

// Makes a zero-filled segment. RESOURCE_EXHAUSTED when there is no room for
// it, saying where and how much was asked for. Errors of ipc/numa_node.h.
absl::StatusOr<SegmentHandles> CreateSegment(const SegmentOptions& options);

// Removes the names of segments whose makers died before they unlinked them.
// Looks only at names made by this user in this pid namespace. Returns how
// many it removed.
int SweepStaleSegments();

class Segment {
 public:
  Segment() = default;
  Segment(Segment&&) = default;
  Segment& operator=(Segment&&) = default;

  // Maps `bytes` of `fd`, which may be closed afterwards. INVALID_ARGUMENT
  // when the object behind it is smaller than `bytes`. An object of hugetlb pages
  // is mapped in whole ones: bytes() may be more then.
  static absl::StatusOr<Segment> Map(int fd, uint64_t bytes, SegmentAccess access,
                                     bool prefault = true);

  std::byte* data() const { return static_cast<std::byte*>(region_.get_address()); }
  size_t bytes() const { return region_.get_size(); }
  bool mapped() const { return region_.get_address() != nullptr; }

 private:
  boost::interprocess::mapped_region region_;
};

}  // namespace baton::ipc

#endif  // BATON_IPC_SEGMENT_H_

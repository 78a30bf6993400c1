#include "runtime/supervisor/channel_record.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bit>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/channel_layout.h"

namespace baton::runtime {

namespace {

absl::Status CheckMemoryFile(int fd, uint64_t bytes, const char* what) {
  struct stat info {};
  struct statfs system {};
  if (::fstat(fd, &info) != 0 || ::fstatfs(fd, &system) != 0 || !S_ISREG(info.st_mode) ||
      (system.f_type != TMPFS_MAGIC && system.f_type != HUGETLBFS_MAGIC)) {
    return absl::InvalidArgumentError(
        absl::StrCat("openChannel: the ", what, " segment is no shared memory"));
  }
  if (bytes == 0 || info.st_size < 0 || static_cast<uint64_t>(info.st_size) < bytes) {
    return absl::InvalidArgumentError(absl::StrCat("openChannel: the ", what, " segment has ",
                                                   info.st_size, " bytes, not ", bytes));
  }
  return absl::OkStatus();
}

// One that does not make its writer wait: workers signal it.
bool IsEventFd(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) == 0) return false;
  std::ifstream info(absl::StrCat("/proc/self/fdinfo/", fd));
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("eventfd-count:")) return true;
  }
  return false;
}

bool ReadAt(int fd, uint64_t offset, void* to, size_t bytes) {
  return ::pread(fd, to, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes);
}

}  // namespace

absl::Status CheckChannelDescriptors(const ChannelRecord& channel) {
  absl::Status status =
      CheckMemoryFile(channel.submission.get(), channel.submission_bytes, "submission");
  if (status.ok()) {
    status = CheckMemoryFile(channel.completion.get(), channel.completion_bytes, "completion");
  }
  if (status.ok() && channel.event.valid() && !IsEventFd(channel.event.get())) {
    status = absl::InvalidArgumentError(
        "openChannel: the eventfd is none, or was made without EFD_NONBLOCK");
  }
  return status;
}

uint64_t CountWaitingRequests(const ChannelRecord& channel) {
  // Raw bytes: the peers write these meanwhile, and a number that is a moment
  // old will do.
  alignas(ipc::SegmentHeader) std::byte header_bytes[sizeof(ipc::SegmentHeader)];
  if (!ReadAt(channel.submission.get(), 0, header_bytes, sizeof(header_bytes))) return 0;
  uint32_t entries = 0;
  uint32_t ring_offset = 0;
  std::memcpy(&entries, header_bytes + offsetof(ipc::SegmentHeader, ring_entries), sizeof(entries));
  std::memcpy(&ring_offset, header_bytes + offsetof(ipc::SegmentHeader, ring_offset),
              sizeof(ring_offset));
  uint64_t taken = 0;
  if (!std::has_single_bit(entries) || entries > ipc::kMaxRingEntries ||
      !ReadAt(channel.completion.get(),
              sizeof(ipc::SegmentHeader) + offsetof(ipc::WorkerState, taken), &taken,
              sizeof(taken))) {
    return 0;
  }
  constexpr size_t kEntry = sizeof(ipc::SubmissionEntry);
  std::vector<std::byte> ring(entries * kEntry);
  if (!ReadAt(channel.submission.get(), ring_offset, ring.data(), ring.size())) return 0;
  uint64_t waiting = 0;
  for (; waiting < entries; ++waiting) {
    const uint64_t sequence = taken + waiting;
    uint64_t stamp = 0;
    std::memcpy(&stamp, ring.data() + (sequence & (entries - 1)) * kEntry, sizeof(stamp));
    if (stamp != sequence) break;
  }
  return waiting;
}

}  // namespace baton::runtime

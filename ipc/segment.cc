#include "ipc/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "boost/interprocess/shared_memory_object.hpp"

#include "ipc/fd_mapping.h"
#include "ipc/memory_file.h"
#include "ipc/numa_node.h"
#include "ipc/process.h"

namespace baton::ipc {
namespace {

namespace bip = boost::interprocess;

constexpr char kShmDirectory[] = "/dev/shm";
constexpr char kNamePrefix[] = "baton.";

uint64_t RoundUp(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }

std::string ErrnoText(int error) {
  char buffer[128];
  return ::strerror_r(error, buffer, sizeof(buffer));
}

absl::Status CannotReserve(uint64_t bytes, SegmentBacking backing, int error) {
  const bool shm = backing == SegmentBacking::kPosixShm;
  const std::string text = absl::StrCat(
      "cannot reserve a segment of ", bytes, " bytes ", shm ? "in /dev/shm" : "as a memfd", ": ",
      ErrnoText(error),
      shm ? ". Free or enlarge /dev/shm (df /dev/shm), ask for smaller arenas, or choose the "
            "memfd backing"
          : ". Free memory, or ask for smaller arenas");
  if (error == ENOSPC || error == ENOMEM || error == EFBIG)
    return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

// Asks for the space now: a write to a page that tmpfs cannot provide later
// would be a SIGBUS in the middle of somebody's request. `pages`: where it is given,
// on huge pages if there are any, and what became of that.
int Reserve(int fd, uint64_t bytes, PageKind* pages = nullptr) {
  // A memfd has no size limit of its own (nor has a tmpfs larger than memory):
  // the kernel would answer with its OOM killer.
  if (bytes > AvailableMemoryBytes(/*with_swap=*/true)) return ENOMEM;
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) return errno;
  if (pages != nullptr && FillWithTransparentHugePages(fd, bytes)) {
    *pages = PageKind::kTransparentHuge;
  }
  return ReserveSpace(fd, bytes);
}

// The inode of the pid namespace: pids in a name mean something only there.
uint64_t PidNamespace() {
  struct stat info;
  return ::stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

absl::StatusOr<std::string> UnguessableName() {
  uint64_t random[2];
  if (::getrandom(random, sizeof(random), 0) != sizeof(random)) {
    return absl::InternalError(absl::StrCat("getrandom failed: ", ErrnoText(errno)));
  }
  absl::StatusOr<ProcessIdentity> self = ProcessIdentity::Of(::getpid());
  if (!self.ok()) return self.status();
  return absl::StrFormat("%s%u.%u.%d.%u.%016x%016x", kNamePrefix, ::getuid(), PidNamespace(),
                         self->pid, self->start_time, random[0], random[1]);
}

absl::StatusOr<SegmentHandles> CreatePosixShm(uint64_t bytes) {
  absl::StatusOr<std::string> name = UnguessableName();
  if (!name.ok()) return name.status();
  SegmentHandles handles;
  handles.bytes = bytes;
  try {
    // A SIGKILL from here to `remove` leaves the name, and SweepStaleSegments
    // takes it away: pid and start time in it say that its maker is dead.
    bip::shared_memory_object object(bip::create_only, name->c_str(), bip::read_write,
                                     bip::permissions(0600));
    int read_only = -1;
    try {
      bip::shared_memory_object reader(bip::open_only, name->c_str(), bip::read_only);
      read_only = ::fcntl(reader.get_mapping_handle().handle, F_DUPFD_CLOEXEC, 3);
    } catch (const bip::interprocess_exception&) {
      read_only = -1;
    }
    bip::shared_memory_object::remove(name->c_str());
    handles.read_only.reset(read_only);
    handles.read_write.reset(::fcntl(object.get_mapping_handle().handle, F_DUPFD_CLOEXEC, 3));
  } catch (const bip::interprocess_exception& error) {
    return absl::InternalError(absl::StrCat("cannot create a shared-memory object in /dev/shm: ",
                                            error.what(), ". Is /dev/shm mounted and writable?"));
  }
  if (!handles.read_only || !handles.read_write) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot duplicate a segment's descriptor: ", ErrnoText(errno), ". Raise ulimit -n"));
  }
  if (const int error = Reserve(handles.read_write.get(), bytes); error != 0) {
    return CannotReserve(bytes, SegmentBacking::kPosixShm, error);
  }
  return handles;
}

absl::StatusOr<SegmentHandles> CreateMemfd(uint64_t bytes, bool huge_pages) {
  constexpr char kName[] = "baton-segment";
  SegmentHandles handles;
  handles.bytes = bytes;
  std::optional<HugetlbFile> hugetlb;
  if (huge_pages) hugetlb = CreateHugetlbFile(kName, bytes);
  if (hugetlb) {
    handles.read_write = std::move(hugetlb->fd);
    handles.bytes = hugetlb->bytes;
    handles.pages = PageKind::kHugetlb;
  } else {
    handles.read_write.reset(::memfd_create(kName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!handles.read_write) {
      return absl::InternalError(absl::StrCat("memfd_create failed: ", ErrnoText(errno)));
    }
    const int error =
        Reserve(handles.read_write.get(), bytes, huge_pages ? &handles.pages : nullptr);
    if (error != 0) return CannotReserve(bytes, SegmentBacking::kMemfd, error);
  }
  const int fd = handles.read_write.get();
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return absl::InternalError(absl::StrCat("cannot seal a memfd: ", ErrnoText(errno)));
  }
  // Through /proc, so that the kernel gives a second description without the
  // right to write: duplicates of the first would keep it.
  handles.read_only.reset(::open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!handles.read_only) {
    return absl::InternalError(
        absl::StrCat("cannot reopen a memfd read-only (is /proc mounted?): ", ErrnoText(errno)));
  }
  return handles;
}

// Touches every page, so that no request pays for a first touch.
void Prefault(std::byte* data, size_t bytes, bool writable) {
#ifdef MADV_POPULATE_WRITE
  if (::madvise(data, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0) return;
#endif
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  unsigned char sum = 0;
  for (size_t at = 0; at < bytes; at += page) {
    sum = static_cast<unsigned char>(sum + *reinterpret_cast<const unsigned char*>(data + at));
  }
  asm volatile("" : : "r"(sum));
}

}  // namespace

absl::StatusOr<SegmentHandles> CreateSegment(const SegmentOptions& options) {
  if (options.bytes == 0 || options.bytes > (uint64_t{1} << 46)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a segment of ", options.bytes, " bytes: must be 1 byte to 64 TiB"));
  }
  if (options.huge_pages && options.backing != SegmentBacking::kMemfd) {
    return absl::InvalidArgumentError(
        "a segment on huge pages has to be a memfd: /dev/shm has none of its own");
  }
  // All pages are taken here, so that this thread says where from.
  std::optional<NumaPreference> preference;
  if (options.numa_node != -1) {
    absl::StatusOr<NumaPreference> node =
        NumaPreference::OfThisThread(options.numa_node, "numa_node");
    if (!node.ok()) return node.status();
    preference.emplace(*std::move(node));
  }
  const uint64_t bytes = RoundUp(options.bytes, static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
  return options.backing == SegmentBacking::kMemfd ? CreateMemfd(bytes, options.huge_pages)
                                                   : CreatePosixShm(bytes);
}

int SweepStaleSegments() {
  std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(kShmDirectory), &::closedir);
  if (directory == nullptr) return 0;
  const uint64_t pid_namespace = PidNamespace();
  int removed = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    unsigned uid = 0;
    uint64_t made_in = 0;
    uint64_t start_time = 0;
    int pid = 0;
    if (std::sscanf(entry->d_name, "baton.%u.%" SCNu64 ".%d.%" SCNu64 ".", &uid, &made_in, &pid,
                    &start_time) != 4) {
      continue;
    }
    if (uid != ::getuid() || made_in != pid_namespace || pid_namespace == 0) continue;
    absl::StatusOr<ProcessIdentity> maker = ProcessIdentity::Of(pid);
    if (maker.ok() && maker->start_time == start_time) continue;
    if (!maker.ok() && !absl::IsNotFound(maker.status())) continue;
    if (bip::shared_memory_object::remove(entry->d_name)) ++removed;
  }
  return removed;
}

absl::StatusOr<Segment> Segment::Map(int fd, uint64_t bytes, SegmentAccess access, bool prefault) {
  struct stat info;
  if (::fstat(fd, &info) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot map a segment: descriptor ", fd, ": ", ErrnoText(errno)));
  }
  // Whole huge pages, though less of them may be asked for. Others as asked.
  const uint64_t page = MappingPageBytes(fd);
  const uint64_t asked = bytes;
  if (page > static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))) bytes = RoundUp(bytes, page);
  // `bytes < asked`: more than can be rounded.
  if (asked == 0 || bytes < asked || info.st_size < 0 ||
      static_cast<uint64_t>(info.st_size) < bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot map a segment of ", asked, " bytes: the object behind it has ", info.st_size));
  }
  const bool writable = access == SegmentAccess::kReadWrite;
  const bip::mode_t mode = writable ? bip::read_write : bip::read_only;
  Segment segment;
  try {
    segment.region_ = bip::mapped_region(FdMapping(fd, mode), mode, 0, bytes);
  } catch (const bip::interprocess_exception& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map a segment of ", bytes, " bytes: ", error.what()));
  }
  // A child that the user's process forks must not keep a segment alive.
  ::madvise(segment.data(), bytes, MADV_DONTFORK);
  if (prefault) Prefault(segment.data(), bytes, writable);
  return segment;
}

}  // namespace baton::ipc

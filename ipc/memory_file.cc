#include "ipc/memory_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string_view>

namespace baton::ipc {
namespace {

using File = std::unique_ptr<FILE, int (*)(FILE*)>;

// The line of /proc/meminfo that begins with `name`, in bytes; nullopt without one.
std::optional<uint64_t> MeminfoBytes(std::string_view name) {
  const File file(std::fopen("/proc/meminfo", "re"), &std::fclose);
  char line[128];
  while (file != nullptr && std::fgets(line, sizeof(line), file.get()) != nullptr) {
    uint64_t kib = 0;
    if (std::string_view(line).starts_with(name) &&
        std::sscanf(line + name.size(), ": %" SCNu64, &kib) == 1) {
      return kib * 1024;
    }
  }
  return std::nullopt;
}

// Of the mapping at `address`, as the kernel counts it; 0 where it does not say.
uint64_t HugeMappedBytes(const void* address) {
  const File smaps(std::fopen("/proc/self/smaps", "re"), &std::fclose);
  if (smaps == nullptr) return 0;
  bool found = false;
  char line[512];
  while (std::fgets(line, sizeof(line), smaps.get()) != nullptr) {
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t kib = 0;
    if (std::sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2) {
      found = start == reinterpret_cast<uint64_t>(address);
    } else if (found && std::sscanf(line, "ShmemPmdMapped: %" SCNu64, &kib) == 1) {
      return kib * 1024;
    }
  }
  return 0;
}

}  // namespace

uint64_t AvailableMemoryBytes(bool with_swap) {
  const std::optional<uint64_t> available = MeminfoBytes("MemAvailable");
  if (!available) return UINT64_MAX;
  return *available + (with_swap ? MeminfoBytes("SwapFree").value_or(0) : 0);
}

uint64_t HugePageBytes() { return MeminfoBytes("Hugepagesize").value_or(2 << 20); }

int ReserveSpace(int fd, uint64_t bytes) {
  // In pieces: older kernels undo a piece that a signal interrupts, and a
  // profiler's timer could interrupt one large call for ever.
  constexpr uint64_t kPiece = 16 << 20;
  for (uint64_t at = 0; at < bytes;) {
    const uint64_t piece = std::min(kPiece, bytes - at);
    const int error = ::posix_fallocate(fd, static_cast<off_t>(at), static_cast<off_t>(piece));
    if (error == EINTR) continue;
    if (error != 0) return error;
    at += piece;
  }
  return 0;
}

std::optional<HugetlbFile> CreateHugetlbFile(const std::string& name, uint64_t bytes) {
  HugetlbFile file;
  file.fd.reset(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (!file.fd) return std::nullopt;
  const uint64_t page = MappingPageBytes(file.fd.get());
  file.bytes = (bytes + page - 1) / page * page;
  if (::ftruncate(file.fd.get(), static_cast<off_t>(file.bytes)) != 0 ||
      ReserveSpace(file.fd.get(), file.bytes) != 0) {
    return std::nullopt;
  }
  return file;
}

bool FillWithTransparentHugePages(int fd, uint64_t bytes) {
  void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return false;
  bool huge =
      ::madvise(mapped, bytes, MADV_DONTFORK) == 0 && ::madvise(mapped, bytes, MADV_HUGEPAGE) == 0;
#ifdef MADV_POPULATE_WRITE
  // Not a loop that writes: where there is no page to be had, this says so.
  huge = huge && ::madvise(mapped, bytes, MADV_POPULATE_WRITE) == 0 && HugeMappedBytes(mapped) > 0;
#else
  huge = false;
#endif
  ::munmap(mapped, bytes);
  return huge;
}

uint64_t MappingPageBytes(int fd) {
  struct statfs system {};
  if (::fstatfs(fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC && system.f_bsize > 0) {
    return static_cast<uint64_t>(system.f_bsize);
  }
  return static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace baton::ipc

// Files that are memory: how their space is reserved, and on what pages.
//
// Thread safety: free functions; any thread.
#ifndef BATON_IPC_MEMORY_FILE_H_
#define BATON_IPC_MEMORY_FILE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "ipc/unique_fd.h"

namespace baton::ipc {

// MemAvailable of /proc/meminfo, and SwapFree as well if that is wanted; no limit
// where it cannot be read. A memory file has no size limit of its own: who reserves
// more than this meets the kernel's OOM killer, not an error.
uint64_t AvailableMemoryBytes(bool with_swap);

// Reserves the space of the first `bytes` bytes, whatever signals come; an errno
// value, or 0. A write to a page without it could be a SIGBUS later.
int ReserveSpace(int fd, uint64_t bytes);

// Of the machine's default huge page, as /proc/meminfo has it; 2 MiB where it does
// not say.
uint64_t HugePageBytes();

// On pages that the administrator has set aside (vm.nr_hugepages).
struct HugetlbFile {
  UniqueFd fd;
  uint64_t bytes = 0;  // in whole huge pages, every one reserved
};
// A memfd that may be sealed, of at least `bytes` bytes. nullopt where fewer pages
// are free than it takes; none is held then.
std::optional<HugetlbFile> CreateHugetlbFile(const std::string& name, uint64_t bytes);

// Fills a memfd of `bytes` bytes that has no pages yet, with transparent huge pages
// as far as the system gives them to who asks (shmem_enabled of
// /sys/kernel/mm/transparent_hugepage) and has some. True where the kernel says that
// there are any. It reserves nothing for certain: ReserveSpace is still to be called.
bool FillWithTransparentHugePages(int fd, uint64_t bytes);

// Mappings of this file begin and end with pages of so many bytes: where it is on
// hugetlb pages those, else the system's. The kernel maps less when asked to, but
// does not unmap it again.
uint64_t MappingPageBytes(int fd);

}  // namespace baton::ipc

#endif  // BATON_IPC_MEMORY_FILE_H_

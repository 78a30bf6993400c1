// What `shmctl doctor` looks at without a driver: kernel, limits, places.
//
// Thread safety: none may run beside another. None waits on anything but the
// kernel's own memory.
#ifndef BATON_TOOLS_SHMCTL_HOST_CHECKS_H_
#define BATON_TOOLS_SHMCTL_HOST_CHECKS_H_

#include <sys/resource.h>

#include <string>
#include <vector>

#include "tools/shmctl/doctor_check.h"

namespace baton::shmctl {

// Whether segments can be made there, and how much fits.
Check CheckSharedMemory(const std::string& directory);
// 0700, this user's, no symbolic link. Makes it, as every server does.
// `path`: empty: the user's own.
Check CheckRunDirectory(const std::string& path);
Check CheckOpenFiles(const rlimit& limit);
Check CheckLockedMemory(const rlimit& limit, bool needs_gpu);
// memfd, seals (does the kernel tell that a mapping is left?), pidfd,
// futex_waitv, subreaper.
std::vector<Check> CheckKernel();

// All of them.
std::vector<Check> CheckHost(const std::string& run_directory, bool needs_gpu);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_HOST_CHECKS_H_

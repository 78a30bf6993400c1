#include "ipc/descriptor_holders.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace baton::ipc {
namespace {

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

}  // namespace

bool HoldsDescriptor(pid_t pid, int fd) {
  struct stat wanted;
  if (::fstat(fd, &wanted) != 0) return false;
  const Directory open(::opendir(absl::StrCat("/proc/", pid, "/fd").c_str()), &::closedir);
  if (open == nullptr) return false;
  while (const dirent* entry = ::readdir(open.get())) {
    struct stat file;
    if (::fstatat(::dirfd(open.get()), entry->d_name, &file, 0) == 0 &&
        file.st_dev == wanted.st_dev && file.st_ino == wanted.st_ino) {
      return true;
    }
  }
  return false;
}

std::vector<pid_t> FindDescriptorHolders(int fd) {
  std::vector<pid_t> holders;
  const Directory proc(::opendir("/proc"), &::closedir);
  if (proc == nullptr) return holders;
  while (const dirent* entry = ::readdir(proc.get())) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry->d_name, &pid) && pid != ::getpid() && HoldsDescriptor(pid, fd)) {
      holders.push_back(pid);
    }
  }
  std::sort(holders.begin(), holders.end());
  return holders;
}

}  // namespace baton::ipc

#include "ipc/mapping_holders.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace baton::ipc {
namespace {

bool Maps(pid_t pid, const struct stat& file) {
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(maps, line);) {
    unsigned major_number = 0;
    unsigned minor_number = 0;
    uint64_t inode = 0;
    // address perms offset dev inode path
    if (std::sscanf(line.c_str(), "%*s %*s %*s %x:%x %" SCNu64, &major_number, &minor_number,
                    &inode) == 3 &&
        inode == file.st_ino && major_number == major(file.st_dev) &&
        minor_number == minor(file.st_dev)) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::vector<pid_t> FindMappingHolders(int fd) {
  std::vector<pid_t> holders;
  struct stat file;
  if (::fstat(fd, &file) != 0) return holders;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), &::closedir);
  if (proc == nullptr) return holders;
  while (const dirent* entry = ::readdir(proc.get())) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry->d_name, &pid) && Maps(pid, file)) holders.push_back(pid);
  }
  std::sort(holders.begin(), holders.end());
  return holders;
}

}  // namespace baton::ipc

#include "tests/system/process_memory.h"

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace baton::testing {

ProcessMemory MemoryOf(pid_t pid) {
  ProcessMemory memory;
  std::ifstream in(absl::StrCat("/proc/", pid, "/smaps_rollup"));
  for (std::string word; in >> word;) {
    uint64_t kib = 0;
    if (word == "Rss:" && in >> kib) memory.resident_bytes = kib * 1024;
    if (word == "Anonymous:" && in >> kib) memory.own_bytes = kib * 1024;
  }
  return memory;
}

}  // namespace baton::testing

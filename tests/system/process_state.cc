#include "tests/system/process_state.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace baton::testing {
namespace {

// State and parent; the name before them may hold anything.
std::optional<std::pair<char, pid_t>> StatOf(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream whole;  // unlike an iterator it does not throw where a process has just ended
  whole << in.rdbuf();
  const std::string text = whole.str();
  const size_t close = text.rfind(')');
  if (close == std::string::npos || close + 4 >= text.size()) return std::nullopt;
  return std::pair(text[close + 2], static_cast<pid_t>(std::atoi(text.c_str() + close + 4)));
}

}  // namespace

char ProcessState(pid_t pid) {
  const auto stat = StatOf(pid);
  return stat ? stat->first : '\0';
}

int ZombieChildren(pid_t parent) {
  int zombies = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().native(), &pid)) continue;
    const auto stat = StatOf(pid);
    if (stat && stat->first == 'Z' && stat->second == parent) ++zombies;
  }
  return zombies;
}

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

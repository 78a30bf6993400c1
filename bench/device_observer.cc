#include "bench/device_observer.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace baton::bench {
namespace {

namespace fs = std::filesystem;

// The arena behind a /proc link: its inode and its bytes; {0, 0} for anything else.
std::pair<ino_t, uint64_t> Arena(const fs::path& link) {
  std::error_code error;
  const std::string target = fs::read_symlink(link, error).native();
  struct stat info {};
  if (error || target.find("baton-device") == std::string::npos ||
      ::stat(link.c_str(), &info) != 0) {
    return {0, 0};
  }
  return {info.st_ino, static_cast<uint64_t>(info.st_blocks) * 512};
}

}  // namespace

DeviceObserver::DeviceObserver(pid_t supervisor)
    : supervisor_(supervisor), thread_([this] {
        while (!stop_.load()) {
          Look();
          std::this_thread::sleep_for(std::chrono::microseconds(500));
        }
      }) {}

DeviceObserver::~DeviceObserver() {
  stop_.store(true);
  thread_.join();
}

// One arena may go and the next come while it looks: what counts as held together is what still
// holds bytes when it is looked at again after everything was seen once.
void DeviceObserver::Look() {
  std::map<ino_t, std::pair<fs::path, uint64_t>> arenas;
  const std::string root = "/proc/" + std::to_string(supervisor_);
  std::vector<std::string> processes = {root};
  std::ifstream children(root + "/task/" + std::to_string(supervisor_) + "/children");
  for (pid_t pid; children >> pid;) processes.push_back("/proc/" + std::to_string(pid));
  for (const std::string& process : processes) {
    std::error_code error;
    for (fs::directory_iterator it(process + "/fd", error), end; !error && it != end;
         it.increment(error)) {
      const auto [inode, bytes] = Arena(it->path());
      if (bytes > 0) arenas[inode] = {it->path(), bytes};
    }
  }
  uint64_t together = 0;
  for (const auto& [inode, arena] : arenas) {
    const auto [same, bytes] = Arena(arena.first);
    if (same == inode) together += std::min(arena.second, bytes);
  }
  peak_bytes_.store(std::max(peak_bytes_.load(), together));
  samples_.fetch_add(1);
}

}  // namespace baton::bench

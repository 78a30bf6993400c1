#include "bench/sleeping.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "ipc/futex.h"

namespace baton::bench {

SleepWatch::SleepWatch(pid_t pid)
    : stat_(::open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC)) {}

bool SleepWatch::Sleeps() const {
  // "pid (name) state ...", and the name may hold anything.
  char text[256];
  const ssize_t size = ::pread(stat_.get(), text, sizeof(text), 0);
  const std::string_view stat(text, size > 0 ? static_cast<size_t>(size) : 0);
  const size_t name_end = stat.rfind(')');
  return name_end != std::string_view::npos && name_end + 2 < stat.size() &&
         stat[name_end + 2] == 'S';
}

absl::Status SleepWatch::Await(absl::Duration timeout) const {
  const int64_t deadline = ipc::MonotonicNs() + absl::ToInt64Nanoseconds(timeout);
  while (ipc::MonotonicNs() < deadline) {
    if (!Sleeps()) continue;
    // It may have been on its way through a short wait.
    for (const int64_t seen = ipc::MonotonicNs(); ipc::MonotonicNs() < seen + 10'000;) {
    }
    if (Sleeps()) return absl::OkStatus();
  }
  return absl::DeadlineExceededError("the other process does not go to sleep");
}

}  // namespace baton::bench

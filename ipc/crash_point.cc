#include "ipc/crash_point.h"

#ifdef BATON_CRASH_POINTS

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>

namespace baton::ipc {

CrashPoint::CrashPoint(std::string_view name) {
  const char* const wanted = std::getenv("BATON_CRASH_AT");
  if (wanted == nullptr) return;
  std::string_view text(wanted);
  if (text.substr(0, name.size()) != name) return;
  text.remove_prefix(name.size());
  int64_t passes = 1;
  if (!text.empty()) {
    if (text.front() != ':') return;  // another name, which begins like this one
    text.remove_prefix(1);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), passes);
    if (error != std::errc() || end != text.data() + text.size()) return;
  }
  left_.store(passes, std::memory_order_relaxed);
}

void CrashPoint::Count() {
  if (left_.fetch_sub(1, std::memory_order_relaxed) != 1) return;
  ::kill(::getpid(), SIGKILL);
  // kill() returns once the signal is pending; nothing more may be stored.
  for (;;) ::pause();
}

}  // namespace baton::ipc

#endif  // BATON_CRASH_POINTS

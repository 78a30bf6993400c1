#include "ipc/crash_point.h"

#ifdef BATON_CRASH_POINTS

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <optional>

namespace baton::ipc {
namespace {

std::atomic<uint64_t> crash_scope{0};

std::optional<uint64_t> TakeNumber(std::string_view& text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

// At which pass `spec` (name[@scope][:n]) springs at `name`; 0: it does not.
int64_t PassesUntil(std::string_view spec, std::string_view name) {
  if (!spec.starts_with(name)) return 0;
  spec.remove_prefix(name.size());
  if (spec.starts_with('@')) {
    spec.remove_prefix(1);
    const std::optional<uint64_t> scope = TakeNumber(spec);
    if (scope != crash_scope.load(std::memory_order_relaxed)) return 0;
  }
  uint64_t passes = 1;
  if (spec.starts_with(':')) {
    spec.remove_prefix(1);
    passes = TakeNumber(spec).value_or(0);
  }
  return spec.empty() ? static_cast<int64_t>(passes) : 0;  // else: another name that begins so
}

int64_t PassesUntilAnyOf(const char* variable, std::string_view name) {
  const char* const value = std::getenv(variable);
  if (value == nullptr) return 0;
  std::string_view specs(value);
  while (!specs.empty()) {
    const size_t comma = specs.find(',');
    if (const int64_t passes = PassesUntil(specs.substr(0, comma), name); passes > 0) return passes;
    if (comma == std::string_view::npos) break;
    specs.remove_prefix(comma + 1);
  }
  return 0;
}

}  // namespace

void SetCrashScope(uint64_t scope) { crash_scope.store(scope, std::memory_order_relaxed); }

CrashPoint::CrashPoint(std::string_view name) {
  const char* const variables[] = {"BATON_CRASH_AT", "BATON_STOP_AT", "BATON_FAIL_AT"};
  for (int i = 0; i < 3; ++i) {
    const int64_t passes = PassesUntilAnyOf(variables[i], name);
    traps_[i].left.store(passes, std::memory_order_relaxed);
    set_ = set_ || passes > 0;
  }
}

bool CrashPoint::Count(Trap& trap) {
  if (trap.left.fetch_sub(1, std::memory_order_relaxed) != 1) return false;
  switch (trap.kind) {
    case Kind::kCrash:
      ::kill(::getpid(), SIGKILL);
      // kill() returns once the signal is pending; nothing more may be stored.
      for (;;) ::pause();
    case Kind::kStop:
      // Does not return to this thread before SIGCONT: the signal is pending on it.
      ::raise(SIGSTOP);
      return false;
    case Kind::kFail:
      break;
  }
  return true;
}

}  // namespace baton::ipc

#endif  // BATON_CRASH_POINTS

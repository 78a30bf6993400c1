#include "runtime/python/fork_guard.h"

#include <pthread.h>

#include <atomic>

namespace baton::python {
namespace {

std::atomic<uint32_t> fork_epoch{0};

}  // namespace

uint32_t ForkGuard::Epoch() {
  static const int registered = ::pthread_atfork(
      nullptr, nullptr, [] { fork_epoch.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(registered);
  return fork_epoch.load(std::memory_order_relaxed);  // only a fork writes it, with one thread
}

}  // namespace baton::python

#include "runtime/worker/channel_memory.h"

#include <atomic>

#include "ipc/crash_point.h"
#include "ipc/eventfd.h"
#include "ipc/futex.h"

namespace baton::runtime {

void ChannelMemory::Wake(uint32_t sleeping) const {
  switch (sleeping) {
    case ipc::kFrontOnFutex:
      worker().wake_count.fetch_add(1, std::memory_order_release);
      BATON_CRASH_POINT("worker.wake_counted");
      ipc::FutexWakeAll(&worker().wake_count);
      break;
    case ipc::kFrontOnEventFd:
      if (event_) ipc::SignalEventFd(event_.get());
      break;
    default:
      break;
  }
}

}  // namespace baton::runtime

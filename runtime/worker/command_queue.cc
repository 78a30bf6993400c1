#include "runtime/worker/command_queue.h"

#include <utility>

#include "ipc/eventfd.h"

namespace baton::runtime {

absl::StatusOr<std::unique_ptr<CommandQueue>> CommandQueue::Create() {
  absl::StatusOr<ipc::UniqueFd> event = ipc::CreateEventFd();
  if (!event.ok()) return event.status();
  return std::unique_ptr<CommandQueue>(new CommandQueue(*std::move(event)));
}

void CommandQueue::Push(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
    pending_.store(true, std::memory_order_relaxed);
  }
  ipc::SignalEventFd(event_.get());
}

std::vector<Command> CommandQueue::TakeAll() {
  const std::lock_guard lock(mutex_);
  pending_.store(false, std::memory_order_relaxed);
  return std::exchange(commands_, {});
}

}  // namespace baton::runtime

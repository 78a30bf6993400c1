// What the supervisor asks of the serving thread, handed over by the control
// thread.
//
// Thread safety: any thread pushes; the serving thread takes. pending() is one
// relaxed load, so that the serving loop may ask it before every request.
#ifndef BATON_RUNTIME_WORKER_COMMAND_QUEUE_H_
#define BATON_RUNTIME_WORKER_COMMAND_QUEUE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "ipc/unique_fd.h"
#include "runtime/worker/channel_server.h"

namespace baton::runtime {

struct Command {
  enum class Kind {
    kAdmit,
    kServe,
    kHold,
    kExit,
    kAddChannel,
    kRemoveChannel,
    kReleaseInputs,  // from a model's thread: some keep their inputs no longer
  };
  Kind kind = Kind::kExit;
  uint64_t call = 0;                           // repeated in the answer
  uint64_t capacity_bytes = 0;                 // kAdmit
  uint64_t channel = 0;                        // kRemoveChannel
  std::unique_ptr<ChannelServer> server = {};  // kAddChannel
};

class CommandQueue {
 public:
  static absl::StatusOr<std::unique_ptr<CommandQueue>> Create();

  void Push(Command command);

  // Whether TakeAll would return something. Relaxed: TakeAll locks, and a
  // command seen one turn later is no harm; a sleeper is woken by event_fd().
  bool pending() const { return pending_.load(std::memory_order_relaxed); }

  // In the order in which they were pushed.
  std::vector<Command> TakeAll();

  // Readable when something was pushed. For WorkerSleep.
  int event_fd() const { return event_.get(); }

 private:
  explicit CommandQueue(ipc::UniqueFd event) : event_(std::move(event)) {}

  const ipc::UniqueFd event_;
  // Alone on its line: written seldom, read all the time.
  alignas(128) std::atomic<bool> pending_{false};
  alignas(128) std::mutex mutex_;
  std::vector<Command> commands_;  // guarded by mutex_
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_COMMAND_QUEUE_H_

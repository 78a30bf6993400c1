// The worker's end of its control socket: what it says to the supervisor.
//
// Thread safety: the control thread alone receives; any thread may send.
// Nothing but Arena fails: a supervisor that cannot be told anything is one that is
// gone, and the control thread is about to find that out.
#ifndef BATON_RUNTIME_WORKER_SUPERVISOR_LINK_H_
#define BATON_RUNTIME_WORKER_SUPERVISOR_LINK_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/control_socket.h"
#include "ipc/device.h"
#include "ipc/unique_fd.h"
#include "runtime/worker/serving_loop.h"

namespace baton::runtime {

class SupervisorLink final : public ServingReplies {
 public:
  explicit SupervisorLink(ipc::UniqueFd fd) : socket_(std::move(fd)) {}

  // Waits for good. UNAVAILABLE when the supervisor is gone.
  absl::StatusOr<ipc::ControlMessage> Receive();
  // The supervisor, as the kernel saw it when it made the socket pair.
  absl::StatusOr<pid_t> SupervisorPid() const;

  // Each repeats the `call` that it answers; 0 answers none.
  struct Needs {
    uint64_t device_bytes = 0;          // of its arena
    uint64_t device_total_bytes = 0;    // of the whole device; 0: not known here
    uint64_t device_results_bytes = 0;  // at the arena's start
    uint64_t max_request_bytes = 0;
  };
  // `methods` have passed ipc::CheckMethods.
  void Staged(uint64_t call, std::span<const Method> methods, const Needs& needs);
  // The arena's descriptor goes along. An error: the supervisor does not know of
  // it, so nobody may use it.
  absl::Status Arena(uint64_t call, const ipc::ArenaExport& arena);
  // The arena is the one that was told, if there is one; its descriptor goes
  // along where it has one now.
  void Ready(uint64_t call, const ipc::ArenaExport& arena);
  void Failed(uint64_t call, const absl::Status& why);
  void ChannelAdded(uint64_t call, uint64_t channel);

  void Held(uint64_t call) override;
  void ChannelRemoved(uint64_t call, uint64_t channel) override;
  void ChannelRefused(uint64_t call, uint64_t channel, const absl::Status& why) override;

 private:
  using Fill = std::function<void(ipc::schema::Envelope::Builder)>;
  // `what` is for the log.
  absl::Status TrySend(uint64_t call, const Fill& fill, std::span<const int> fds);
  void Send(std::string_view what, uint64_t call, const Fill& fill, std::span<const int> fds = {});

  ipc::ControlSocket socket_;
  std::mutex send_mutex_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SUPERVISOR_LINK_H_

// One worker process as the supervisor holds it: pidfd, control socket, and
// what it has said about itself.
//
// Thread safety: belongs to the supervisor's one thread. No call waits: what a
// full socket does not take is kept, in order, until Flush. Destroying the
// handle kills and reaps.
#ifndef BATON_RUNTIME_SUPERVISOR_WORKER_HANDLE_H_
#define BATON_RUNTIME_SUPERVISOR_WORKER_HANDLE_H_

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "capnp/message.h"

#include "baton/tensor.h"
#include "ipc/control_socket.h"
#include "ipc/device.h"
#include "ipc/process.h"
#include "runtime/supervisor/channel_record.h"
#include "runtime/supervisor/secrets.h"
#include "runtime/supervisor/worker_output.h"

namespace baton::runtime {

struct WorkerSpec {
  std::string executable;
  std::string server;
  std::string directory;
  std::string device;  // in place of the one in config.yaml; empty: that one
  uint64_t generation = 0;
  int worker_page_fd = -1;
  int doorbell_fd = -1;
  int life_fd = -1;  // held by the worker to its end (ServerFolder::life_fd)
  // The handle keeps it: what a generation came up with is "last good".
  std::shared_ptr<const SecretsSnapshot> secrets;
  std::string config;     // the text of config.yaml; as secrets
  WorkerOutput::Log log;  // where its lines go
};

class WorkerHandle {
 public:
  // Starts the program and tells it to stage the model. Of the environment it
  // inherits the supervisor's; the secrets go through a sealed memfd and are
  // never on a command line (A16). What it writes to its standard error comes
  // to `output`.
  static absl::StatusOr<std::unique_ptr<WorkerHandle>> Spawn(const WorkerSpec& spec);

  uint64_t generation() const { return generation_; }
  pid_t pid() const { return process_.pid(); }
  const ipc::ProcessIdentity& identity() const { return process_.identity(); }
  int pidfd() const { return process_.pidfd(); }
  int socket_fd() const { return socket_.fd(); }
  WorkerOutput& output() { return *output_; }
  const std::shared_ptr<const SecretsSnapshot>& secrets() const { return secrets_; }
  const std::string& config() const { return config_; }

  // The next message: nullopt when there is none now. An error: the worker has
  // hung up or talks nonsense.
  absl::StatusOr<std::optional<ipc::ControlMessage>> Receive();

  absl::Status Admit(uint64_t capacity_bytes);
  absl::Status Serve();
  absl::Status Hold();
  // Whether a `held` with this call answers the last Hold. One that a drain
  // timeout has overtaken answers nothing any more.
  bool AnswersHold(uint64_t call) const { return call != 0 && call == holds_; }
  absl::Status Exit();
  absl::Status AddChannel(const ChannelRecord& channel);
  absl::Status RemoveChannel(uint64_t channel);
  void Kill();

  // Sends what waits, as far as the socket takes it now.
  absl::Status Flush();
  // Drops what waits.
  void GiveUpSending() { outgoing_.clear(); }
  // Since when the socket has taken nothing of what waits; 0: nothing waits.
  int64_t stalled_since_ns() const { return outgoing_.empty() ? 0 : stalled_since_ns_; }

  // nullopt while it runs.
  absl::StatusOr<std::optional<ipc::ExitStatus>> TryReap() { return process_.TryReap(); }

  // What it said, filled in by the owner.
  bool staged = false;
  std::set<uint64_t> unmapped_channels;  // given to it when it was staged; not answered for
  bool admitted = false;                 // told to allocate
  bool ready = false;
  std::vector<Method> methods;
  uint64_t max_request_bytes = 0;
  uint64_t device_bytes = 0;
  uint64_t device_total_bytes = 0;    // of the whole device; 0: not its to say
  uint64_t device_results_bytes = 0;  // for channels' results and inputs, at the arena's start
  ipc::ArenaExport arena;             // from `arena`; its fd is invalid when there is none
  int64_t hung_up_ns = 0;             // when its socket ended; 0: it has not

 private:
  WorkerHandle(const WorkerSpec& spec, std::unique_ptr<WorkerOutput> output,
               ipc::ChildProcess process, ipc::ControlSocket socket);
  // A message with descriptors of its own: the channel may end before it is sent.
  struct Outgoing {
    std::unique_ptr<capnp::MallocMessageBuilder> message;
    std::vector<ipc::UniqueFd> fds;
  };
  template <typename Fill>
  absl::Status Send(Fill&& fill, std::initializer_list<int> fds = {});

  const uint64_t generation_;
  const std::shared_ptr<const SecretsSnapshot> secrets_;
  const std::string config_;
  const std::unique_ptr<WorkerOutput> output_;
  ipc::ChildProcess process_;
  ipc::ControlSocket socket_;
  std::deque<Outgoing> outgoing_;
  int64_t stalled_since_ns_ = 0;
  uint64_t holds_ = 0;  // told so far; each is a call of its own
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_WORKER_HANDLE_H_

// A raw connection to a server's control socket, for tests: says what it is
// told to, well-formed or not.
#ifndef BATON_TESTS_RUNTIME_SUPERVISOR_CONTROL_CLIENT_H_
#define BATON_TESTS_RUNTIME_SUPERVISOR_CONTROL_CLIENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/control_socket.h"
#include "ipc/schema/control.capnp.h"
#include "ipc/schema/receipt.capnp.h"

namespace baton::testing {

class ControlClient {
 public:
  using Envelope = ipc::schema::Envelope;
  using Role = ipc::schema::Hello::Role;

  // Connects; says nothing yet.
  static absl::StatusOr<ControlClient> Connect(const std::string& run_directory,
                                               const std::string& name);
  // Connects, says hello and reads the welcome.
  static absl::StatusOr<ControlClient> Open(const std::string& run_directory,
                                            const std::string& name, Role role = Role::CLIENT,
                                            bool wants_device = false);

  // Asks; returns the answer to this call. The error where it is one.
  absl::StatusOr<ipc::ControlMessage> Call(const std::function<void(Envelope::Builder)>& fill,
                                           std::vector<int> fds = {});
  absl::Status Send(const std::function<void(Envelope::Builder)>& fill, std::vector<int> fds = {});
  absl::StatusOr<ipc::ControlMessage> Receive() { return socket_.Receive(absl::Minutes(1)); }
  // The server has closed this connection.
  bool IsClosed();

  // As a front with device memory: receives `generationClosing` and answers
  // that it holds `count` leases of `channel`; 0: none. Returns the question's
  // call, for a later answer with AnswerLeases.
  absl::StatusOr<uint64_t> AwaitClosing(uint32_t count = 0, uint64_t channel = 0);
  absl::Status AnswerLeases(uint64_t call, uint64_t generation, uint32_t count = 0,
                            uint64_t channel = 0);
  // Receives the offer of an arena and says that it is mapped; its descriptor.
  absl::StatusOr<ipc::UniqueFd> AcceptArena();

  struct ServerStatus {
    std::string state = {}, reason = {}, last_verdict = {};
    uint64_t generation = 0, reloads = 0, restarts = 0, device_bytes = 0, taken = 0, completed = 0;
    uint32_t channels = 0, fronts = 0;
    int32_t worker_pid = 0, helper_pid = 0;
    bool ready = false, started = false, secrets_reload = false;
  };
  ServerStatus Status();

  // Asks for a reload and waits for its end.
  struct Reloaded {
    absl::Status status = {};
    std::string outcome = {}, verdict = {}, reason = {}, trigger = {};
    uint64_t generation = 0, successor = 0;
  };
  Reloaded Reload();

  int fd() const { return socket_.fd(); }

 private:
  ipc::ControlSocket socket_;
  uint64_t last_call_ = 0;
};

// One line of a server's receipts file.
struct ReceiptLine {
  std::string trigger, outcome, verdict, reason, exit_kind;
  uint64_t generation = 0, successor = 0, held = 0, gap_ns = 0;
  uint64_t before = 0, after = 0, peak = 0, model = 0;
  uint32_t imports_closed = 0, imports_cut_off = 0;
  int32_t exit_code = 0;
  std::vector<std::string> states;
  std::map<std::string, std::string> evidence;  // fact: "value (source)"
  std::string holders;
  int32_t successor_pid = 0;
};
std::vector<ReceiptLine> ParseReceipts(const std::vector<std::string>& lines);

}  // namespace baton::testing

#endif  // BATON_TESTS_RUNTIME_SUPERVISOR_CONTROL_CLIENT_H_

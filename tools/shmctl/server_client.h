// A connection to one server, in the role of a client: it may ask and command,
// but opens no channel and maps nothing.
//
// Thread safety: none. Every call has a bound.
#ifndef BATON_TOOLS_SHMCTL_SERVER_CLIENT_H_
#define BATON_TOOLS_SHMCTL_SERVER_CLIENT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/tensor.h"
#include "ipc/control_socket.h"
#include "ipc/run_directory.h"

namespace baton::shmctl {

// The directory at `path`, or the user's own when that is empty.
absl::StatusOr<ipc::RunDirectory> OpenRunDirectory(const std::string& path);

// A running server. NoSuchServer, with the names of those that run, when there
// is none of that name; UsageError when it cannot be a name.
absl::StatusOr<ipc::ServerEntry> FindServer(const std::string& run_directory,
                                            const std::string& name);

class ServerClient {
 public:
  // Finds the server and shakes hands. A server that has just begun to start is
  // waited for. Errors as FindServer; DEADLINE_EXCEEDED when it does not answer.
  static absl::StatusOr<ServerClient> Connect(const std::string& run_directory,
                                              const std::string& name, absl::Duration timeout);

  // As the server said when the connection was made.
  const std::string& server() const { return server_; }
  uint64_t generation() const { return generation_; }
  // Empty while no generation has been ready.
  const std::vector<Method>& methods() const { return methods_; }

  // Asks what `fill` writes and waits for its answer. What the server answers
  // with `error` is returned as that error.
  absl::StatusOr<ipc::ControlMessage> Call(
      const std::function<void(ipc::schema::Envelope::Builder)>& fill, absl::Duration timeout);

  // Waits until the server has hung up and its name is free.
  absl::Status WaitForEnd(absl::Duration timeout);

 private:
  ServerClient(std::string run_directory, std::string server, ipc::ControlSocket socket)
      : run_directory_(std::move(run_directory)),
        server_(std::move(server)),
        socket_(std::move(socket)) {}
  absl::Status Handshake(absl::Duration timeout);

  std::string run_directory_;
  std::string server_;
  ipc::ControlSocket socket_;
  uint64_t next_call_ = 1;
  uint64_t generation_ = 0;
  std::vector<Method> methods_;
};

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_SERVER_CLIENT_H_

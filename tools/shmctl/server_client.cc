#include "tools/shmctl/server_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "capnp/message.h"

#include "ipc/schema_convert.h"
#include "tools/shmctl/exit_code.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

// How often a server is looked at that holds its name without being there yet,
// or any more.
constexpr absl::Duration kPause = absl::Milliseconds(5);

absl::Status NoAnswer(const std::string& server, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat("server '", server, "': ", std::string(status.message()),
                                   ": look at its log, and stop it (or kill it) if it is stuck"));
}

// A server takes its name before it listens: within `timeout`, wait for it.
absl::StatusOr<ipc::ControlSocket> ConnectSocket(const std::string& run_directory,
                                                 const ipc::ServerEntry& entry,
                                                 absl::Time deadline) {
  for (;;) {
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    absl::StatusOr<ipc::ControlSocket> socket =
        ipc::ControlSocket::Connect(entry.control_socket, left);
    if (socket.ok()) return socket;
    const bool not_yet = absl::IsNotFound(socket.status()) || absl::IsUnavailable(socket.status());
    if (!not_yet || absl::Now() >= deadline) return NoAnswer(entry.name, socket.status());
    absl::SleepFor(kPause);
    if (auto still = FindServer(run_directory, entry.name); !still.ok()) return still.status();
  }
}

}  // namespace

absl::StatusOr<ipc::RunDirectory> OpenRunDirectory(const std::string& path) {
  return path.empty() ? ipc::RunDirectory::Open() : ipc::RunDirectory::OpenAt(path);
}

absl::StatusOr<ipc::ServerEntry> FindServer(const std::string& run_directory,
                                            const std::string& name) {
  absl::StatusOr<ipc::RunDirectory> directory = OpenRunDirectory(run_directory);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<ipc::ServerEntry> entry = directory->FindServer(name);
  if (absl::IsNotFound(entry.status())) return NoSuchServer(entry.status());
  if (absl::IsInvalidArgument(entry.status())) {
    return UsageError(std::string(entry.status().message()));
  }
  return entry;
}

absl::StatusOr<ServerClient> ServerClient::Connect(const std::string& run_directory,
                                                   const std::string& name,
                                                   absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::StatusOr<ipc::ServerEntry> entry = FindServer(run_directory, name);
  if (!entry.ok()) return entry.status();
  absl::StatusOr<ipc::ControlSocket> socket = ConnectSocket(run_directory, *entry, deadline);
  if (!socket.ok()) return socket.status();
  ServerClient client(run_directory, name, *std::move(socket));
  if (absl::Status status = client.Handshake(deadline - absl::Now()); !status.ok()) return status;
  return client;
}

absl::Status ServerClient::Handshake(absl::Duration timeout) {
  absl::StatusOr<ipc::ControlMessage> reply = Call(
      [](schema::Envelope::Builder envelope) {
        auto hello = envelope.initHello();
        hello.setProtocolVersion(schema::PROTOCOL_VERSION);
        hello.setRole(schema::Hello::Role::CLIENT);
        hello.setProgram("shmctl");
      },
      timeout);
  if (!reply.ok()) return reply.status();
  const schema::Envelope::Reader envelope = reply->envelope();
  if (!envelope.isWelcome() ||
      envelope.getWelcome().getProtocolVersion() != schema::PROTOCOL_VERSION) {
    return absl::FailedPreconditionError(
        absl::StrCat("server '", server_,
                     "' does not speak this shmctl's protocol: use the same version of Baton on "
                     "both sides"));
  }
  generation_ = envelope.getWelcome().getGeneration();
  if (!envelope.getWelcome().hasSignature()) return absl::OkStatus();
  absl::StatusOr<std::vector<Method>> methods = ipc::ReadModel(envelope.getWelcome());
  if (!methods.ok()) return methods.status();
  methods_ = *std::move(methods);
  return absl::OkStatus();
}

absl::StatusOr<ipc::ControlMessage> ServerClient::Call(
    const std::function<void(schema::Envelope::Builder)>& fill, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  const uint64_t call = next_call_++;
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(call);
  fill(envelope);
  if (absl::Status status = socket_.Send(message, {}, timeout); !status.ok()) {
    return NoAnswer(server_, status);
  }
  for (;;) {
    absl::StatusOr<ipc::ControlMessage> reply =
        socket_.Receive(std::max(deadline - absl::Now(), absl::ZeroDuration()));
    if (!reply.ok()) return NoAnswer(server_, reply.status());
    if (reply->call() != call) continue;  // an answer that somebody stopped waiting for
    if (!reply->envelope().isError()) return reply;
    absl::Status error = ipc::ReadStatus(reply->envelope().getError());
    if (error.ok()) error = absl::UnknownError("the server failed without saying how");
    return error;
  }
}

absl::Status ServerClient::WaitForEnd(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::Status hung_up;
  while (!absl::IsUnavailable(hung_up)) {
    hung_up = socket_.Receive(std::max(deadline - absl::Now(), absl::ZeroDuration())).status();
    if (absl::IsDeadlineExceeded(hung_up) || absl::Now() >= deadline) {
      return NoAnswer(server_, absl::DeadlineExceededError("it has not ended yet"));
    }
  }
  for (;;) {
    const absl::StatusOr<ipc::ServerEntry> entry = FindServer(run_directory_, server_);
    if (ExitCodeOf(entry.status()) == ExitCode::kNoSuchServer) return absl::OkStatus();
    if (!entry.ok()) return entry.status();
    if (absl::Now() >= deadline) {
      return NoAnswer(server_, absl::DeadlineExceededError("it still holds its name"));
    }
    absl::SleepFor(kPause);
  }
}

}  // namespace baton::shmctl

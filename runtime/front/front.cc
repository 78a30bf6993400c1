#include "baton/front.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

#include "ipc/pages.h"
#include "ipc/poll_fd.h"
#include "ipc/process.h"
#include "ipc/run_directory.h"
#include "runtime/executable_path.h"
#include "runtime/front/channel_core.h"
#include "runtime/front/session.h"

namespace baton {
namespace {

absl::StatusOr<ipc::RunDirectory> OpenRunDirectory(const std::string& path) {
  return path.empty() ? ipc::RunDirectory::Open() : ipc::RunDirectory::OpenAt(path);
}

struct Pipe {
  ipc::UniqueFd read;
  ipc::UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError("cannot make a pipe: raise ulimit -n");
  }
  return Pipe{.read = ipc::UniqueFd(fds[0]), .write = ipc::UniqueFd(fds[1])};
}

std::string PrivateName() {
  uint64_t random = 0;
  static_cast<void>(::getrandom(&random, sizeof(random), 0));
  return absl::StrFormat("private-%d-%08x", ::getpid(), random & 0xffffffff);
}

// Everything the server says on its ready descriptor until it closes it.
absl::StatusOr<std::string> ReadAll(int fd, absl::Time deadline) {
  std::string text;
  for (;;) {
    if (!ipc::PollFd(fd, POLLIN, deadline - absl::Now())) {
      return absl::DeadlineExceededError(
          "the server was not ready within start_timeout: give a model that loads slowly more");
    }
    char buffer[4096];
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.starts_with("ready")) return text;
  }
}

std::vector<std::string> ServerArguments(const LaunchOptions& options, const std::string& name) {
  // 3: closes when this process ends; 4: where it says that it is ready.
  std::vector<std::string> args = {options.directory, "--name", name, "--die-with-fd", "3",
                                   "--ready-fd",      "4"};
  if (!options.secrets_directory.empty()) {
    args.insert(args.end(), {"--secrets", options.secrets_directory});
  }
  if (!options.device.empty()) args.insert(args.end(), {"--device", options.device});
  if (options.disable_secrets_reload) args.emplace_back("--disable-secrets-reload");
  if (!options.front.run_directory.empty()) {
    args.insert(args.end(), {"--run-directory", options.front.run_directory});
  }
  return args;
}

}  // namespace

Front::Front(std::shared_ptr<internal::Session> session) : session_(std::move(session)) {}

Front::~Front() { session_->EndOwnServer(); }

absl::StatusOr<std::unique_ptr<Front>> Front::Attach(const std::string& name,
                                                     const FrontOptions& options) {
  absl::StatusOr<ipc::RunDirectory> directory = OpenRunDirectory(options.run_directory);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<ipc::ServerEntry> server = directory->FindServer(name);
  if (!server.ok()) return server.status();
  absl::StatusOr<std::shared_ptr<internal::Session>> session =
      internal::Session::Connect(server->control_socket, options);
  if (!session.ok()) return session.status();
  return std::unique_ptr<Front>(new Front(*std::move(session)));
}

absl::StatusOr<std::unique_ptr<Front>> Front::Launch(const LaunchOptions& options) {
  const absl::Time deadline = absl::Now() + options.start_timeout;
  std::string executable = options.supervisor_executable;
  if (executable.empty()) {
    absl::StatusOr<std::string> found = runtime::FindExecutable("baton-supervisor");
    if (!found.ok()) return found.status();
    executable = *std::move(found);
  }
  // A socket, not a pipe: its end can be said even while a forked child holds a copy.
  int life[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life) != 0) {
    return absl::ResourceExhaustedError("cannot make a socket pair: raise ulimit -n");
  }
  ipc::UniqueFd our_life(life[0]);
  ipc::UniqueFd server_life(life[1]);
  absl::StatusOr<Pipe> ready = MakePipe();
  if (!ready.ok()) return ready.status();
  const std::string name = options.name.empty() ? PrivateName() : options.name;
  absl::StatusOr<ipc::ChildProcess> server =
      ipc::SpawnProcess({.executable = executable,
                         .args = ServerArguments(options, name),
                         .env = std::nullopt,
                         .fds = {{server_life.get(), 3}, {ready->write.get(), 4}}});
  if (!server.ok()) return server.status();
  server_life.reset();
  ready->write.reset();
  absl::StatusOr<std::string> answer = ReadAll(ready->read.get(), deadline);
  if (!answer.ok()) return answer.status();
  if (!answer->starts_with("ready")) {
    return absl::FailedPreconditionError(
        answer->empty() ? absl::StrCat("the server for ", options.directory,
                                       " ended before it was ready; its log says why")
                        : *answer);
  }
  absl::StatusOr<std::unique_ptr<Front>> front = Attach(name, options.front);
  if (!front.ok()) return front.status();
  (*front)->session_->OwnServer(*std::move(server), std::move(our_life));
  return front;
}

absl::StatusOr<Channel> Front::OpenChannel(const ChannelOptions& options) {
  absl::StatusOr<internal::ChannelCore*> core = internal::ChannelCore::Open(session_, options);
  if (!core.ok()) return core.status();
  return Channel(*core);
}

const std::string& Front::name() const { return session_->server(); }
const std::vector<Method>& Front::methods() const { return session_->methods(); }
const Signature& Front::signature() const { return session_->signature(); }

uint64_t Front::generation() const {
  if (session_->forked()) return 0;
  return session_->status_page().generation.load(std::memory_order_acquire);
}

std::string_view Front::state() const {
  if (session_->gone() || session_->forked()) return "GONE";
  const uint32_t state = session_->status_page().state.load(std::memory_order_acquire);
  return ipc::ServerStateName(static_cast<ipc::ServerState>(state));
}

uint64_t Front::imported_generation() const { return session_->imported_generation(); }

uint64_t Front::closing_generation() const { return session_->closing_generation(); }

}  // namespace baton

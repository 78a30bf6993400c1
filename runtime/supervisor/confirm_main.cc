// baton-confirm: asks the kernel, and on a GPU the driver, for baton-supervisor
// whether device memory is gone. It can be killed at any instruction: the next one asks again.
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "ipc/control_socket.h"
#include "ipc/crash_point.h"
#include "ipc/process.h"
#include "ipc/unique_fd.h"
#include "runtime/supervisor/confirmation.h"

namespace {

constexpr int kExitUsage = 2;
constexpr int kExitSupervisorGone = 3;

}  // namespace

int main(int argc, char** argv) {
  using baton::runtime::kConfirmSocketFd;
  int type = 0;
  socklen_t size = sizeof(type);
  if (::getsockopt(kConfirmSocketFd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
      type != SOCK_SEQPACKET) {
    std::fputs(
        "baton-confirm is started by baton-supervisor, with a control socket as descriptor 3.\n"
        "To serve a model: shmctl serve DIR\n",
        stderr);
    return kExitUsage;
  }
  // A signal to a whole service is the supervisor's to act on, and it needs this one to the end.
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
  // Tests name one of a row of helpers.
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string_view(argv[i]) == "--helper") {
      baton::ipc::SetCrashScope(std::strtoull(argv[i + 1], nullptr, 10));
    }
  }
  baton::ipc::ControlSocket supervisor{baton::ipc::UniqueFd(kConfirmSocketFd)};
  const auto peer = supervisor.Peer();
  if (!peer.ok() || !baton::ipc::DieWithParent(peer->pid).ok()) return kExitSupervisorGone;
  baton::ipc::cuda::NvmlSource gpus;
  baton::ipc::cuda::DriverTrial allocator;
  const absl::Status ended = baton::runtime::AnswerConfirmations(supervisor, gpus, allocator);
  return absl::IsUnavailable(ended) ? 0 : kExitSupervisorGone;
}

// baton-worker: runs one generation of a model for baton-supervisor, which
// passes its control socket as descriptor 3.
#include <sys/socket.h>

#include <cstdio>

#include "ipc/unique_fd.h"
#include "runtime/worker/worker.h"

int main() {
  int type = 0;
  socklen_t size = sizeof(type);
  if (::getsockopt(baton::runtime::kWorkerControlFd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
      type != SOCK_SEQPACKET) {
    std::fputs(
        "baton-worker is started by baton-supervisor, with a control socket as descriptor 3.\n"
        "To serve a model: shmctl serve DIR\n",
        stderr);
    return baton::runtime::kExitUsage;
  }
  baton::runtime::RunWorker(baton::ipc::UniqueFd(baton::runtime::kWorkerControlFd));
}

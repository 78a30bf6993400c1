#include "tools/gpu_check/peer.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace baton::gpu_check {
namespace {

constexpr absl::Duration kReapLimit = absl::Seconds(60);

PeerReply Unanswered() {
  PeerReply reply;
  reply.result = ipc::cuda::kUnknown;
  reply.text[0] = '?';
  return reply;
}

}  // namespace

Peer Peer::Start(unsigned device) {
  Peer peer;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    peer.status_ = absl::ErrnoToStatus(errno, "cannot make a pair of sockets");
    return peer;
  }
  peer.socket_.reset(ends[0]);
  const ipc::UniqueFd its(ends[1]);
  absl::StatusOr<ipc::ChildProcess> process = ipc::SpawnProcess({
      .executable = "/proc/self/exe",
      .args = {"--peer", std::to_string(::getpid()), "--device", std::to_string(device)},
      .fds = {{its.get(), kPeerSocket}},
      // In the measurement's group, which is killed as a whole when its time is up.
      .new_process_group = false,
  });
  if (process.ok()) {
    peer.process_ = *std::move(process);
  } else {
    peer.status_ = process.status();
  }
  return peer;
}

Peer Peer::StartWithContext(unsigned device) {
  Peer peer = Start(device);
  peer.Do({.verb = Verb::kOpenContext});
  return peer;
}

PeerReply Peer::Ask(const PeerRequest& request, int fd) {
  if (!status_.ok()) return Unanswered();
  fd_.reset();
  status_ = SendPacket(socket_.get(), std::as_bytes(std::span(&request, 1)), fd);
  PeerReply reply;
  if (status_.ok()) {
    status_ =
        ReceivePacket(socket_.get(), std::as_writable_bytes(std::span(&reply, 1)), fd_, kPatience);
  }
  return status_.ok() ? reply : Unanswered();
}

PeerReply Peer::Do(const PeerRequest& request, int fd) {
  const PeerReply reply = Ask(request, fd);
  if (status_.ok() && !reply.ok()) status_ = absl::InternalError(reply.text);
  return status_.ok() ? reply : Unanswered();
}

void Peer::Kill() {
  if (!process_.running()) return;
  absl::Status killed = process_.Kill(SIGKILL);
  killed.Update(process_.Reap(kReapLimit).status());
  status_.Update(killed);
}

}  // namespace baton::gpu_check

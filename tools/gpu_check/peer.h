// A process with a context of its own, which does one thing after the other as
// it is told: exporter, importer, or one that may be lost.
//
// Thread safety: one thread at a time, the one that started it, which has to
// live as long as the peer is to.
#ifndef BATON_TOOLS_GPU_CHECK_PEER_H_
#define BATON_TOOLS_GPU_CHECK_PEER_H_

#include <sys/types.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "ipc/process.h"
#include "ipc/unique_fd.h"
#include "tools/gpu_check/peer_message.h"

namespace baton::gpu_check {

// A measurement is a script, and fails at its first step that does: after a
// failure nothing is sent any more, replies are empty, and status() says what
// it was.
class Peer {
 public:
  // Without a context yet.
  static Peer Start(unsigned device);
  // With one.
  static Peer StartWithContext(unsigned device);

  // The driver's refusal is an answer: look at ok(). A failure is only that the
  // peer has gone, or does not answer for kPatience.
  PeerReply Ask(const PeerRequest& request, int fd = -1);
  // The driver's refusal is a failure.
  PeerReply Do(const PeerRequest& request, int fd = -1);
  // The descriptor that came with the last reply.
  ipc::UniqueFd TakeFd() { return std::move(fd_); }

  const absl::Status& status() const { return status_; }
  pid_t pid() const { return process_.pid(); }
  ipc::ChildProcess& process() { return process_; }
  // SIGKILL, and reaped. Nothing can be asked any more.
  void Kill();

  static constexpr absl::Duration kPatience = absl::Seconds(60);

 private:
  Peer() = default;

  absl::Status status_;
  ipc::ChildProcess process_;
  ipc::UniqueFd socket_;
  ipc::UniqueFd fd_;
};

// The peer's side: serves the descriptor kPeerSocket until the other end goes.
// Returns the exit code.
inline constexpr int kPeerSocket = 3;
int RunPeer(unsigned device);

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_PEER_H_

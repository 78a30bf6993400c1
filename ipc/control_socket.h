// The control plane's transport: Cap'n Proto envelopes with file descriptors
// beside them, one packet each, over Unix SOCK_SEQPACKET sockets.
//
// Thread safety: one thread at a time sends and one at a time receives on a
// ControlSocket; the two may be different threads. A ControlMessage belongs to
// one thread at a time.
//
// Invariants
// 1. No call waits longer than its timeout: a peer that does not read makes
//    Send fail, it does not make it hang.
// 2. A message that Receive returned has been walked field by field against
//    the schema; reading it again throws nothing, whatever the peer sent.
// 3. Every received descriptor has an owner from the moment it arrives, is
//    O_CLOEXEC, and is closed when its message is refused.
// 4. Descriptors passed to Send are the caller's before and after.
#ifndef BATON_IPC_CONTROL_SOCKET_H_
#define BATON_IPC_CONTROL_SOCKET_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "capnp/message.h"
#include "capnp/serialize.h"
#include "kj/array.h"

#include "ipc/schema/control.capnp.h"
#include "ipc/unique_fd.h"

namespace baton::ipc {

// The largest packet that is sent or accepted.
inline constexpr size_t kMaxControlPacketBytes = 64 * 1024;
// The most descriptors that ride along with one packet.
inline constexpr size_t kMaxControlFds = 8;
// How long Send waits for a peer whose queue is full.
inline constexpr absl::Duration kControlSendTimeout = absl::Seconds(1);

// What arrived: bytes not yet looked at, and descriptors in the order sent.
struct ControlPacket {
  kj::Array<capnp::word> words;
  std::vector<UniqueFd> fds;
};

// A packet that is a well-formed Envelope.
class ControlMessage {
 public:
  // INVALID_ARGUMENT when the bytes are no Envelope: truncated, a pointer that
  // leads outside, the wrong type behind a pointer, nested too deep, or more
  // to read than a packet can honestly hold.
  static absl::StatusOr<ControlMessage> Parse(ControlPacket packet);

  // Valid as long as this message (or what it was moved to) lives. A field
  // that was never set reads as its default; `which()` may be a number that
  // this version does not know.
  schema::Envelope::Reader envelope() const { return envelope_; }
  uint64_t call() const { return envelope_.getCall(); }

  size_t fd_count() const { return packet_.fds.size(); }
  // Hands the descriptor over; invalid when there is none at `index`, or it
  // was taken before.
  UniqueFd TakeFd(size_t index);

 private:
  ControlMessage() = default;

  ControlPacket packet_;
  std::unique_ptr<capnp::FlatArrayMessageReader> reader_;
  schema::Envelope::Reader envelope_;
};

// Who is at the other end, as the kernel saw it when the connection was made.
// Of a pair this is the process that made the pair.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
};

class ControlSocket {
 public:
  // Not connected: every call fails with FAILED_PRECONDITION.
  ControlSocket() = default;
  // Takes over a connected socket, for example one inherited from the parent.
  explicit ControlSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  ControlSocket(ControlSocket&&) = default;
  ControlSocket& operator=(ControlSocket&&) = default;

  // Connects to a listener and checks that it belongs to this user or root.
  // NOT_FOUND when there is no such socket, UNAVAILABLE when nobody listens on
  // it, DEADLINE_EXCEEDED when the listener accepts nobody for `timeout`,
  // PERMISSION_DENIED when it is another user's.
  static absl::StatusOr<ControlSocket> Connect(const std::string& path, absl::Duration timeout);

  // A connected pair; the second end is for a child, through SpawnOptions::fds.
  static absl::StatusOr<std::pair<ControlSocket, UniqueFd>> MakePair();

  // Sends one packet, all of it or nothing. UNAVAILABLE when the peer is gone,
  // DEADLINE_EXCEEDED when it has not read for `timeout`, INVALID_ARGUMENT when
  // the message or the list of descriptors is too large.
  absl::Status Send(capnp::MessageBuilder& message, std::span<const int> fds = {},
                    absl::Duration timeout = kControlSendTimeout);

  // Waits for one packet. DEADLINE_EXCEEDED on timeout (zero: only what is
  // there), UNAVAILABLE when the peer is gone and everything it sent has been
  // read, INVALID_ARGUMENT for a packet that is too large, has too many
  // descriptors or is no Envelope. After INVALID_ARGUMENT the socket still
  // works, but the peer is not one to go on talking to.
  absl::StatusOr<ControlMessage> Receive(absl::Duration timeout);

  absl::StatusOr<PeerCredentials> Peer() const;
  // PERMISSION_DENIED unless the peer runs as this user or as root.
  absl::Status CheckPeer() const;

  // For poll and epoll: readable when Receive would not wait.
  int fd() const { return fd_.get(); }
  bool connected() const { return fd_.valid(); }
  void Close() { fd_.reset(); }

 private:
  absl::StatusOr<ControlPacket> ReceivePacket();

  UniqueFd fd_;
};

// A listening socket in a run directory.
class ControlListener {
 public:
  ControlListener() = default;
  ControlListener(ControlListener&&) = default;
  ControlListener& operator=(ControlListener&&) = default;

  // Binds `path` with mode 0600. Replaces a socket that is there already: call
  // it only while holding the server folder's lock, which is what says that
  // the one there is stale. The name stays when the listener goes.
  static absl::StatusOr<ControlListener> Listen(const std::string& path);

  // Never waits. nullopt when nobody is waiting to be accepted.
  // PERMISSION_DENIED when another user tried (the connection is closed
  // already). RESOURCE_EXHAUSTED when this process is out of descriptors: the
  // client stays in the queue, so do not call again at once.
  absl::StatusOr<std::optional<ControlSocket>> Accept();

  // For poll and epoll: readable when Accept would return a socket.
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

}  // namespace baton::ipc

#endif  // BATON_IPC_CONTROL_SOCKET_H_

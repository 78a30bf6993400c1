#include "ipc/control_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "capnp/dynamic.h"
#include "kj/exception.h"

#include "ipc/poll_fd.h"

namespace baton::ipc {
namespace {

constexpr int kBacklog = 128;
constexpr int kMaxNesting = 16;
// Reading each word of the largest packet once, and as much again for lists
// of empty structs; pointers that share a target to multiply it end here.
constexpr uint64_t kValidationWords = 2 * kMaxControlPacketBytes / sizeof(capnp::word);

absl::Status PeerGone() {
  return absl::UnavailableError("the other end of the control socket has closed it");
}

absl::Status NotConnected() {
  return absl::FailedPreconditionError("the control socket is not connected");
}

bool MeansPeerGone(int error) {
  return error == EPIPE || error == ECONNRESET || error == ENOTCONN || error == ECONNREFUSED;
}

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", path, "' cannot name a Unix socket: it has ", path.size(), " bytes, and the limit is ",
        sizeof(address.sun_path) - 1, ". Use a shorter server name or XDG_RUNTIME_DIR"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<UniqueFd> NewSocket(int flags = 0) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot create a Unix socket");
  return fd;
}

// Reading a bad pointer is what throws, so everything is read once here; the
// schema knows what is to be found behind each pointer.
void Visit(capnp::DynamicStruct::Reader value);

bool HoldsPointers(capnp::schema::Type::Which type) {
  return type == capnp::schema::Type::TEXT || type == capnp::schema::Type::DATA ||
         type == capnp::schema::Type::LIST || type == capnp::schema::Type::STRUCT;
}

void Visit(capnp::DynamicValue::Reader value) {
  switch (value.getType()) {
    case capnp::DynamicValue::STRUCT:
      Visit(value.as<capnp::DynamicStruct>());
      break;
    case capnp::DynamicValue::LIST: {
      const auto list = value.as<capnp::DynamicList>();
      if (!HoldsPointers(list.getSchema().whichElementType())) break;
      for (const capnp::DynamicValue::Reader element : list) Visit(element);
      break;
    }
    default:  // text and data were checked when they were got
      break;
  }
}

void Visit(capnp::DynamicStruct::Reader value) {
  const auto visit = [&value](capnp::StructSchema::Field field) {
    if (HoldsPointers(field.getType().which())) Visit(value.get(field));
  };
  for (const capnp::StructSchema::Field field : value.getSchema().getNonUnionFields()) visit(field);
  // None for a union member that this version does not know: nobody can read it.
  KJ_IF_MAYBE (field, value.which()) visit(*field);
}

// What recvmsg puts beside the bytes.
union ControlBuffer {
  cmsghdr align;
  char bytes[CMSG_SPACE(kMaxControlFds * sizeof(int))];
};

std::vector<UniqueFd> TakeFds(msghdr& header) {
  std::vector<UniqueFd> fds;
  fds.reserve(kMaxControlFds);
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

void PutFds(std::span<const int> fds, msghdr& header, ControlBuffer& buffer) {
  if (fds.empty()) return;
  header.msg_control = buffer.bytes;
  header.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* item = CMSG_FIRSTHDR(&header);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(item), fds.data(), fds.size_bytes());
}

}  // namespace

absl::StatusOr<ControlMessage> ControlMessage::Parse(ControlPacket packet) {
  try {
    capnp::ReaderOptions strict;
    strict.traversalLimitInWords = kValidationWords;
    strict.nestingLimit = kMaxNesting;
    capnp::FlatArrayMessageReader validation(packet.words, strict);
    Visit(capnp::DynamicStruct::Reader(validation.getRoot<schema::Envelope>()));

    // The reader that callers use counts anew, and what it may read is now
    // known to be little, however often it is read.
    capnp::ReaderOptions options;
    options.nestingLimit = kMaxNesting;
    ControlMessage message;
    message.packet_ = std::move(packet);
    message.reader_ =
        std::make_unique<capnp::FlatArrayMessageReader>(message.packet_.words, options);
    message.envelope_ = message.reader_->getRoot<schema::Envelope>();
    return message;
  } catch (const kj::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("a control packet is not well formed: ", error.getDescription().cStr()));
  }
}

UniqueFd ControlMessage::TakeFd(size_t index) {
  if (index >= packet_.fds.size()) return UniqueFd();
  return std::move(packet_.fds[index]);
}

absl::StatusOr<ControlSocket> ControlSocket::Connect(const std::string& path,
                                                     absl::Duration timeout) {
  absl::StatusOr<sockaddr_un> address = AddressOf(path);
  if (!address.ok()) return address.status();
  absl::StatusOr<UniqueFd> fd = NewSocket();
  if (!fd.ok()) return fd.status();
  // connect waits while the listener's queue is full. Zero would mean: for good.
  const timeval limit = absl::ToTimeval(std::max(timeout, absl::Microseconds(1)));
  if (::setsockopt(fd->get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
    return absl::ErrnoToStatus(errno, "cannot set a socket's timeout");
  }
  int result;
  do {
    result = ::connect(fd->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address));
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    const std::string what = absl::StrCat("cannot connect to ", path);
    switch (errno) {
      case ECONNREFUSED:
        return absl::UnavailableError(absl::StrCat(what, ": nobody listens there any more"));
      case EAGAIN:
        return absl::DeadlineExceededError(
            absl::StrCat(what, ": it accepted no connection for ", absl::FormatDuration(timeout)));
      default:
        return absl::ErrnoToStatus(errno, what);
    }
  }
  ControlSocket socket(*std::move(fd));
  if (absl::Status status = socket.CheckPeer(); !status.ok()) return status;
  return socket;
}

absl::StatusOr<std::pair<ControlSocket, UniqueFd>> ControlSocket::MakePair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return absl::ErrnoToStatus(errno, "cannot create a pair of sockets");
  }
  return std::pair(ControlSocket(UniqueFd(fds[0])), UniqueFd(fds[1]));
}

absl::Status ControlSocket::Send(capnp::MessageBuilder& message, std::span<const int> fds,
                                 absl::Duration timeout) {
  if (!connected()) return NotConnected();
  if (fds.size() > kMaxControlFds) {
    return absl::InvalidArgumentError(absl::StrCat(fds.size(), " descriptors are too many for one ",
                                                   "control packet; the limit is ",
                                                   kMaxControlFds));
  }
  const size_t bytes = capnp::computeSerializedSizeInWords(message) * sizeof(capnp::word);
  if (bytes > kMaxControlPacketBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a control message of ", bytes,
                                                   " bytes is too large; the limit is ",
                                                   kMaxControlPacketBytes));
  }
  const kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  iovec data = {.iov_base = const_cast<capnp::word*>(words.begin()), .iov_len = bytes};
  msghdr header = {};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  ControlBuffer control = {};
  PutFds(fds, header, control);

  bool waited = false;
  while (true) {
    if (::sendmsg(fd(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (MeansPeerGone(errno)) return PeerGone();
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      return absl::ErrnoToStatus(errno, "cannot send a control message");
    }
    if (waited || !PollFd(fd(), POLLOUT, timeout)) {
      return absl::DeadlineExceededError(
          absl::StrCat("the other end of the control socket has read nothing for ",
                       absl::FormatDuration(timeout)));
    }
    waited = true;
  }
}

absl::StatusOr<ControlPacket> ControlSocket::ReceivePacket() {
  kj::Array<capnp::word> buffer =
      kj::heapArray<capnp::word>(kMaxControlPacketBytes / sizeof(capnp::word));
  iovec data = {.iov_base = buffer.begin(), .iov_len = kMaxControlPacketBytes};
  ControlBuffer control = {};
  msghdr header = {};
  ssize_t got;
  do {
    header = {};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof(control.bytes);
    got = ::recvmsg(fd(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    // ECONNRESET is told once, when the peer left without reading everything
    // of ours; what it sent before that is still there to be read.
  } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return absl::DeadlineExceededError("");
    if (MeansPeerGone(errno)) return PeerGone();
    return absl::ErrnoToStatus(errno, "cannot receive a control message");
  }
  ControlPacket packet;
  packet.fds = TakeFds(header);  // before anything is refused, so that they are closed
  if (got == 0 && packet.fds.empty()) return PeerGone();
  if ((header.msg_flags & MSG_TRUNC) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a control packet is larger than the limit of ",
                                                   kMaxControlPacketBytes, " bytes"));
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a control packet carries more than ", kMaxControlFds,
                     " descriptors, or this process can open no more (ulimit -n)"));
  }
  if (got % sizeof(capnp::word) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a control packet of ", got, " bytes is not made of whole words"));
  }
  const size_t words = static_cast<size_t>(got) / sizeof(capnp::word);
  packet.words = kj::heapArray<capnp::word>(words);
  std::memcpy(static_cast<void*>(packet.words.begin()), buffer.begin(), static_cast<size_t>(got));
  return packet;
}

absl::StatusOr<ControlMessage> ControlSocket::Receive(absl::Duration timeout) {
  if (!connected()) return NotConnected();
  absl::StatusOr<ControlPacket> packet = ReceivePacket();
  if (absl::IsDeadlineExceeded(packet.status()) && PollFd(fd(), POLLIN, timeout)) {
    packet = ReceivePacket();
  }
  if (absl::IsDeadlineExceeded(packet.status())) {
    return absl::DeadlineExceededError(
        absl::StrCat("no control message came in ", absl::FormatDuration(timeout)));
  }
  if (!packet.ok()) return packet.status();
  return ControlMessage::Parse(*std::move(packet));
}

absl::StatusOr<PeerCredentials> ControlSocket::Peer() const {
  if (!connected()) return NotConnected();
  ucred credentials = {};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return absl::ErrnoToStatus(errno, "cannot tell who is at the other end of a control socket");
  }
  return PeerCredentials{.pid = credentials.pid, .uid = credentials.uid};
}

absl::Status ControlSocket::CheckPeer() const {
  absl::StatusOr<PeerCredentials> peer = Peer();
  if (!peer.ok()) return peer.status();
  if (peer->uid == ::geteuid() || peer->uid == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("the other end of the control socket, process ", peer->pid, ", runs as user ",
                   peer->uid, "; only user ", ::geteuid(), " and root may talk here"));
}

absl::StatusOr<ControlListener> ControlListener::Listen(const std::string& path) {
  // Bound under another name, and given its own when it listens: who waits for the name to appear
  // and connects must not be refused. No longer than `path`, so that it fits an address, too.
  std::string unready = path;
  if (!unready.empty()) unready.back() = '~';
  const absl::StatusOr<sockaddr_un> address = AddressOf(unready);
  if (!address.ok()) return address.status();
  for (const std::string& name : {path, unready}) {
    struct stat existing;
    if (::lstat(name.c_str(), &existing) != 0) continue;
    if (!S_ISSOCK(existing.st_mode)) {
      return absl::FailedPreconditionError(
          absl::StrCat(name, " is in the way: it is not a socket. Remove it"));
    }
    if (::unlink(name.c_str()) != 0 && errno != ENOENT) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot remove the stale socket ", name));
    }
  }
  absl::StatusOr<UniqueFd> fd = NewSocket(SOCK_NONBLOCK);
  if (!fd.ok()) return fd.status();
  // The mode of the descriptor becomes that of the name, from the start on.
  if (::fchmod(fd->get(), 0600) != 0 ||
      ::bind(fd->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0 ||
      ::listen(fd->get(), kBacklog) != 0 || ::rename(unready.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", path));
  }
  ControlListener listener;
  listener.fd_ = *std::move(fd);
  return listener;
}

absl::StatusOr<std::optional<ControlSocket>> ControlListener::Accept() {
  if (!fd_) return absl::FailedPreconditionError("the listener was not opened");
  UniqueFd fd(::accept4(this->fd(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return std::nullopt;
    return absl::ErrnoToStatus(errno, "cannot accept a control connection");
  }
  ControlSocket socket(std::move(fd));
  if (absl::Status status = socket.CheckPeer(); !status.ok()) return status;
  return socket;
}

}  // namespace baton::ipc

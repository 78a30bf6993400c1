#include "tools/gpu_check/peer_message.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "ipc/poll_fd.h"

namespace baton::gpu_check {

absl::Status SendPacket(int socket, std::span<const std::byte> bytes, int fd) {
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(bytes.size())) return absl::OkStatus();
  if (sent < 0 && errno != EPIPE && errno != ECONNRESET) {
    return absl::ErrnoToStatus(errno, "cannot send to the other process");
  }
  return absl::UnavailableError("the other process has gone");
}

absl::Status ReceivePacket(int socket, std::span<std::byte> to, ipc::UniqueFd& fd,
                           absl::Duration timeout) {
  if (!ipc::PollFd(socket, POLLIN, timeout)) {
    return absl::DeadlineExceededError(
        absl::StrCat("the other process has not answered for ", absl::FormatDuration(timeout)));
  }
  iovec part{.iov_base = to.data(), .iov_len = to.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t received;
  do {
    received = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received >= 0) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header), sizeof(int));
      fd.reset(number);
    }
  }
  if (received == static_cast<ssize_t>(to.size())) return absl::OkStatus();
  if (received > 0) return absl::InternalError("the other process is of another version");
  return absl::UnavailableError("the other process has gone");
}

}  // namespace baton::gpu_check

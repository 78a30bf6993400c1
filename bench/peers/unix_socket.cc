#include "bench/peers/unix_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <utility>
#include <vector>

#include "bench/peers/peer_end.h"

namespace baton::bench {
namespace {

constexpr char kName[] = "UnixSocket";

absl::Status WriteAll(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return absl::ErrnoToStatus(errno, "cannot write to the other end");
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
  return absl::OkStatus();
}

absl::Status ReadAll(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::read(fd, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return absl::ErrnoToStatus(errno, "cannot read from the other end");
    if (done == 0) return absl::UnavailableError("the other end has closed its socket");
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
  return absl::OkStatus();
}

class UnixSocket final : public Peer {
 public:
  UnixSocket(PeerSetup setup, ipc::UniqueFd socket, std::unique_ptr<PeerEnd> end)
      : setup_(std::move(setup)),
        payload_(setup_.bytes),
        socket_(std::move(socket)),
        end_(std::move(end)) {}
  // It sleeps in read.
  void Resume() override {}
  void Pause() override {}
  absl::Status RoundTrip(uint64_t seed) override {
    if (setup_.produced()) WritePayload(payload_, seed);
    if (absl::Status status = WriteAll(socket_.get(), payload_); !status.ok()) return status;
    uint64_t sum = 0;
    absl::Status status = ReadAll(socket_.get(), std::as_writable_bytes(std::span(&sum, 1)));
    return status.ok() ? CheckSum(setup_, seed, sum) : status;
  }

 private:
  const PeerSetup setup_;
  std::vector<std::byte> payload_;
  const ipc::UniqueFd socket_;
  const std::unique_ptr<PeerEnd> end_;
};

absl::StatusOr<std::unique_ptr<Peer>> Start(const PeerSetup& setup, int cpu) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a pair of sockets");
  }
  ipc::UniqueFd ours(fds[0]);
  const ipc::UniqueFd theirs(fds[1]);
  absl::StatusOr<std::unique_ptr<PeerEnd>> end =
      PeerEnd::Start({.kind = kName, .setup = setup, .cpu = cpu, .fd = theirs.get()});
  if (!end.ok()) return end.status();
  return std::make_unique<UnixSocket>(setup, std::move(ours), *std::move(end));
}

absl::Status Serve(EndSide& side) {
  std::vector<std::byte> payload(side.setup().bytes);
  side.Ready();
  while (true) {
    if (absl::Status status = ReadAll(side.fd(), payload); !status.ok()) return status;
    const uint64_t sum = side.Read(payload);
    absl::Status status = WriteAll(side.fd(), std::as_bytes(std::span(&sum, 1)));
    if (!status.ok()) return status;
  }
}

}  // namespace

PeerKind UnixSocketKind() { return {.name = kName, .start = Start, .serve = Serve}; }

}  // namespace baton::bench

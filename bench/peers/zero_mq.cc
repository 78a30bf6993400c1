#include "bench/peers/zero_mq.h"

#include <zmq.h>

#include <cerrno>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "bench/peers/peer_end.h"

namespace baton::bench {
namespace {

constexpr char kName[] = "ZeroMq";
// Bounds a wait for one that has gone.
constexpr int kReceiveTimeoutMs = 60'000;

absl::Status ZmqError(const char* what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", zmq_strerror(errno)));
}
std::string Address(const PeerSetup& setup) { return "ipc://@" + setup.rendezvous; }

class Socket {
 public:
  explicit Socket(int type) : context_(zmq_ctx_new()), socket_(zmq_socket(context_, type)) {
    const int no_linger = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &no_linger, sizeof(no_linger));
  }
  ~Socket() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  void* get() { return socket_; }

 private:
  void* const context_;
  void* const socket_;
};

class ZeroMq final : public Peer {
 public:
  explicit ZeroMq(PeerSetup setup) : setup_(std::move(setup)), payload_(setup_.bytes) {}

  absl::Status Start(int cpu) {
    absl::StatusOr<std::unique_ptr<PeerEnd>> end =
        PeerEnd::Start({.kind = kName, .setup = setup_, .cpu = cpu});
    if (!end.ok()) return end.status();
    end_ = *std::move(end);
    zmq_setsockopt(socket_.get(), ZMQ_RCVTIMEO, &kReceiveTimeoutMs, sizeof(kReceiveTimeoutMs));
    if (zmq_connect(socket_.get(), Address(setup_).c_str()) != 0) return ZmqError("zmq_connect");
    return absl::OkStatus();
  }
  // It sleeps in zmq_msg_recv.
  void Resume() override {}
  void Pause() override {}
  absl::Status RoundTrip(uint64_t seed) override {
    if (setup_.produced()) WritePayload(payload_, seed);
    // The answer shows that it is done with the payload: no copy is needed.
    if (zmq_send_const(socket_.get(), payload_.data(), payload_.size(), 0) < 0) {
      return ZmqError("zmq_send_const");
    }
    uint64_t sum = 0;
    if (zmq_recv(socket_.get(), &sum, sizeof(sum), 0) != sizeof(sum)) {
      return end_->alive() ? ZmqError("zmq_recv") : end_->Gone();
    }
    return CheckSum(setup_, seed, sum);
  }

 private:
  const PeerSetup setup_;
  std::vector<std::byte> payload_;
  std::unique_ptr<PeerEnd> end_;
  Socket socket_{ZMQ_REQ};
};

absl::StatusOr<std::unique_ptr<Peer>> Start(const PeerSetup& setup, int cpu) {
  auto peer = std::make_unique<ZeroMq>(setup);
  if (absl::Status status = peer->Start(cpu); !status.ok()) return status;
  return peer;
}

absl::Status Serve(EndSide& side) {
  Socket socket(ZMQ_REP);
  if (zmq_bind(socket.get(), Address(side.setup()).c_str()) != 0) return ZmqError("zmq_bind");
  side.Ready();
  zmq_msg_t message;
  while (true) {
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, socket.get(), 0) < 0) return ZmqError("zmq_msg_recv");
    const uint64_t sum =
        side.Read({static_cast<const std::byte*>(zmq_msg_data(&message)), zmq_msg_size(&message)});
    zmq_msg_close(&message);
    if (zmq_send(socket.get(), &sum, sizeof(sum), 0) < 0) return ZmqError("zmq_send");
  }
}

}  // namespace

PeerKind ZeroMqKind() { return {.name = kName, .start = Start, .serve = Serve}; }

}  // namespace baton::bench

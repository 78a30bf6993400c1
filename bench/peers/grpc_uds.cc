#include "bench/peers/grpc_uds.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/client_unary_call.h>
#include <grpcpp/impl/method_handler_impl.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "bench/peers/peer_end.h"

namespace baton::bench {
namespace {

using grpc::ByteBuffer;

constexpr char kName[] = "GrpcUds";
constexpr char kMethod[] = "/baton.bench.Echo/Call";
constexpr int kUnlimited = -1;

std::string Address(const PeerSetup& setup) { return "unix-abstract:" + setup.rendezvous; }

// The memory stays the caller's: no copy.
ByteBuffer Wrap(const void* data, size_t bytes) {
  const grpc::Slice slice(data, bytes, grpc::Slice::STATIC_SLICE);
  return ByteBuffer(&slice, 1);
}

// The first bytes of a message, which may lie in several parts.
absl::StatusOr<uint64_t> Word(const ByteBuffer& message) {
  std::vector<grpc::Slice> parts;
  uint64_t word = 0;
  size_t got = 0;
  if (!message.Dump(&parts).ok()) return absl::DataLossError("an answer without bytes");
  for (const grpc::Slice& part : parts) {
    const size_t size = std::min(part.size(), sizeof(word) - got);
    std::memcpy(reinterpret_cast<std::byte*>(&word) + got, part.begin(), size);
    got += size;
  }
  if (got != sizeof(word)) return absl::DataLossError("an answer that is too short");
  return word;
}

class GrpcUds final : public Peer {
 public:
  GrpcUds(PeerSetup setup, std::unique_ptr<PeerEnd> end)
      : setup_(std::move(setup)), payload_(setup_.bytes), end_(std::move(end)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kUnlimited);
    arguments.SetMaxSendMessageSize(kUnlimited);
    channel_ =
        grpc::CreateCustomChannel(Address(setup_), grpc::InsecureChannelCredentials(), arguments);
    method_ = std::make_unique<grpc::internal::RpcMethod>(
        kMethod, grpc::internal::RpcMethod::NORMAL_RPC, channel_);
  }
  // It sleeps in gRPC's poll.
  void Resume() override {}
  void Pause() override {}
  absl::Status RoundTrip(uint64_t seed) override {
    if (setup_.produced()) WritePayload(payload_, seed);
    grpc::ClientContext context;
    context.set_wait_for_ready(false);
    const ByteBuffer request = Wrap(payload_.data(), payload_.size());
    ByteBuffer answer;
    const grpc::Status status = grpc::internal::BlockingUnaryCall<ByteBuffer, ByteBuffer>(
        channel_.get(), *method_, &context, request, &answer);
    if (!status.ok()) return absl::UnavailableError(absl::StrCat("gRPC: ", status.error_message()));
    const absl::StatusOr<uint64_t> sum = Word(answer);
    return sum.ok() ? CheckSum(setup_, seed, *sum) : sum.status();
  }

 private:
  const PeerSetup setup_;
  std::vector<std::byte> payload_;
  const std::unique_ptr<PeerEnd> end_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::internal::RpcMethod> method_;
};

absl::StatusOr<std::unique_ptr<Peer>> Start(const PeerSetup& setup, int cpu) {
  absl::StatusOr<std::unique_ptr<PeerEnd>> end =
      PeerEnd::Start({.kind = kName, .setup = setup, .cpu = cpu});
  if (!end.ok()) return end.status();
  return std::make_unique<GrpcUds>(setup, *std::move(end));
}

// What the code that protobuf generates does, without protobuf.
class Echo final : public grpc::Service {
 public:
  explicit Echo(EndSide& side) : side_(side) {
    AddMethod(new grpc::internal::RpcServiceMethod(
        kMethod, grpc::internal::RpcMethod::NORMAL_RPC,
        new grpc::internal::RpcMethodHandler<Echo, ByteBuffer, ByteBuffer>(
            [](Echo* echo, grpc::ServerContext*, const ByteBuffer* request, ByteBuffer* answer) {
              return echo->Call(*request, answer);
            },
            this)));
  }

 private:
  grpc::Status Call(const ByteBuffer& request, ByteBuffer* answer) {
    uint64_t sum = 0;
    if (side_.setup().produced()) {
      std::vector<grpc::Slice> parts;
      if (grpc::Status status = request.Dump(&parts); !status.ok()) return status;
      for (const grpc::Slice& part : parts) sum += Add(part);
    }
    const grpc::Slice slice(&sum, sizeof(sum));
    *answer = ByteBuffer(&slice, 1);
    return grpc::Status::OK;
  }
  // Parts end anywhere, so what is left of a word at the end of one goes on in
  // the next.
  uint64_t Add(const grpc::Slice& part) {
    uint64_t sum = 0;
    const uint8_t* at = part.begin();
    const uint8_t* const end = part.end();
    while (held_ != 0 && at != end) sum += Hold(*at++);
    const size_t whole = static_cast<size_t>(end - at) / sizeof(uint64_t) * sizeof(uint64_t);
    sum += ReadPayload({reinterpret_cast<const std::byte*>(at), whole});
    at += whole;
    while (at != end) sum += Hold(*at++);
    return sum;
  }
  uint64_t Hold(uint8_t byte) {
    word_ |= static_cast<uint64_t>(byte) << (8 * held_);
    if (++held_ < sizeof(uint64_t)) return 0;
    held_ = 0;
    return std::exchange(word_, 0);
  }

  EndSide& side_;
  uint64_t word_ = 0;
  size_t held_ = 0;
};

absl::Status Serve(EndSide& side) {
  Echo echo(side);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kUnlimited);
  builder.AddListeningPort(Address(side.setup()), grpc::InsecureServerCredentials());
  builder.RegisterService(&echo);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::UnavailableError("gRPC cannot listen");
  side.Ready();
  server->Wait();
  return absl::OkStatus();
}

}  // namespace

PeerKind GrpcUdsKind() { return {.name = kName, .start = Start, .serve = Serve}; }

}  // namespace baton::bench

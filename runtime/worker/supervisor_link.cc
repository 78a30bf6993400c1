#include "runtime/worker/supervisor_link.h"

#include <string>

#include "absl/time/time.h"
#include "capnp/message.h"

#include "ipc/schema_convert.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {

namespace {

void WriteArena(const ipc::ArenaExport& arena, ipc::schema::ArenaExport::Builder to) {
  to.setGeneration(arena.generation);
  to.setBytes(arena.bytes);
  const auto* token = reinterpret_cast<const kj::byte*>(arena.token.data());
  to.setToken(kj::arrayPtr(token, arena.token.size()));
}

}  // namespace

absl::StatusOr<ipc::ControlMessage> SupervisorLink::Receive() {
  return socket_.Receive(absl::InfiniteDuration());
}

absl::StatusOr<pid_t> SupervisorLink::SupervisorPid() const {
  absl::StatusOr<ipc::PeerCredentials> peer = socket_.Peer();
  if (!peer.ok()) return peer.status();
  return peer->pid;
}

absl::Status SupervisorLink::TrySend(uint64_t call, const Fill& fill, std::span<const int> fds) {
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<ipc::schema::Envelope>();
  envelope.setCall(call);
  fill(envelope);
  const std::lock_guard lock(send_mutex_);
  return socket_.Send(message, fds);
}

void SupervisorLink::Send(std::string_view what, uint64_t call, const Fill& fill,
                          std::span<const int> fds) {
  const absl::Status sent = TrySend(call, fill, fds);
  if (!sent.ok()) {
    spdlog::warn("could not tell the supervisor `{}`: {}", what, std::string(sent.message()));
  }
}

void SupervisorLink::Staged(uint64_t call, std::span<const Method> methods, const Needs& needs) {
  Send("staged", call, [&](ipc::schema::Envelope::Builder envelope) {
    auto staged = envelope.initStaged();
    ipc::WriteModel(methods, staged);
    staged.setDeviceBytes(needs.device_bytes);
    staged.setDeviceTotalBytes(needs.device_total_bytes);
    staged.setDeviceResultsBytes(needs.device_results_bytes);
    staged.setMaxRequestBytes(needs.max_request_bytes);
  });
}

absl::Status SupervisorLink::Arena(uint64_t call, const ipc::ArenaExport& arena) {
  const int fd = arena.fd.get();
  return TrySend(
      call,
      [&](ipc::schema::Envelope::Builder envelope) { WriteArena(arena, envelope.initArena()); },
      fd >= 0 ? std::span<const int>(&fd, 1) : std::span<const int>());
}

void SupervisorLink::Ready(uint64_t call, const ipc::ArenaExport& arena) {
  const int fd = arena.fd.get();
  Send(
      "ready", call,
      [&](ipc::schema::Envelope::Builder envelope) { WriteArena(arena, envelope.initReady()); },
      fd >= 0 ? std::span<const int>(&fd, 1) : std::span<const int>());
}

void SupervisorLink::Failed(uint64_t call, const absl::Status& why) {
  Send("failed", call, [&](ipc::schema::Envelope::Builder envelope) {
    ipc::WriteStatus(why, envelope.initFailed());
  });
}

void SupervisorLink::ChannelAdded(uint64_t call, uint64_t channel) {
  Send("channelAdded", call, [&](ipc::schema::Envelope::Builder envelope) {
    envelope.initChannelAdded().setChannel(channel);
  });
}

void SupervisorLink::Held(uint64_t call) {
  Send("held", call, [](ipc::schema::Envelope::Builder envelope) { envelope.setHeld(); });
}

void SupervisorLink::ChannelRemoved(uint64_t call, uint64_t channel) {
  Send("channelRemoved", call, [&](ipc::schema::Envelope::Builder envelope) {
    envelope.initChannelRemoved().setChannel(channel);
  });
}

void SupervisorLink::ChannelRefused(uint64_t call, uint64_t channel, const absl::Status& why) {
  Send("channelRefused", call, [&](ipc::schema::Envelope::Builder envelope) {
    auto refused = envelope.initChannelRefused();
    refused.setChannel(channel);
    ipc::WriteStatus(why, refused.initError());
  });
}

}  // namespace baton::runtime

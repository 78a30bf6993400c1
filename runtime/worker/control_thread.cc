#include "runtime/worker/control_thread.h"

#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "runtime/worker/channel_server.h"
#include "runtime/worker/worker.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {
namespace {

using Envelope = ipc::schema::Envelope;

void AddChannel(ipc::ControlMessage& message, SupervisorLink& link, CommandQueue& commands) {
  const auto request = message.envelope().getAddChannel();
  const ipc::UniqueFd submission = message.TakeFd(0);
  const ipc::UniqueFd completion = message.TakeFd(1);
  const ipc::UniqueFd event = request.getHasEvent() ? message.TakeFd(2) : ipc::UniqueFd();
  const uint64_t channel = request.getChannel();
  absl::StatusOr<std::unique_ptr<ChannelServer>> server = ChannelServer::Map(
      channel, {.submission = submission.get(),
                .completion = completion.get(),
                .event = event.get(),
                .submission_bytes = request.getSubmissionBytes(),
                .completion_bytes = request.getCompletionBytes(),
                .results = {.offset = request.getDeviceOffset(), .bytes = request.getDeviceBytes()},
                .inputs = {.offset = request.getDeviceInputOffset(),
                           .bytes = request.getDeviceInputBytes()}});
  if (!server.ok()) {
    spdlog::error("channel {} is refused: {}", channel, std::string(server.status().message()));
    link.ChannelRefused(message.call(), channel, server.status());
    return;
  }
  commands.Push({.kind = Command::Kind::kAddChannel, .server = *std::move(server)});
  link.ChannelAdded(message.call(), channel);
}

void Handle(ipc::ControlMessage& message, SupervisorLink& link, CommandQueue& commands) {
  const Envelope::Reader envelope = message.envelope();
  const uint64_t call = message.call();
  switch (envelope.which()) {
    case Envelope::ADMIT:
      commands.Push({.kind = Command::Kind::kAdmit,
                     .call = call,
                     .capacity_bytes = envelope.getAdmit().getCapacityBytes()});
      return;
    case Envelope::ADD_CHANNEL:
      AddChannel(message, link, commands);
      return;
    case Envelope::REMOVE_CHANNEL:
      commands.Push({.kind = Command::Kind::kRemoveChannel,
                     .call = call,
                     .channel = envelope.getRemoveChannel().getChannel()});
      return;
    case Envelope::SERVE:
      commands.Push({.kind = Command::Kind::kServe, .call = call});
      return;
    case Envelope::HOLD:
      commands.Push({.kind = Command::Kind::kHold, .call = call});
      return;
    case Envelope::EXIT:
      commands.Push({.kind = Command::Kind::kExit, .call = call});
      return;
    default:
      spdlog::warn("the supervisor said something that is not for workers (message {})",
                   static_cast<int>(envelope.which()));
  }
}

[[noreturn]] void Listen(SupervisorLink& link, CommandQueue& commands) {
  for (;;) {
    absl::StatusOr<ipc::ControlMessage> message = link.Receive();
    // Gone, or not one to go on talking to. No destructor, no handler: the
    // model may be in the middle of anything.
    if (!message.ok()) ::_exit(kExitSupervisorGone);
    Handle(*message, link, commands);
  }
}

}  // namespace

void StartControlThread(SupervisorLink& link, CommandQueue& commands) {
  std::thread([&link, &commands] { Listen(link, commands); }).detach();
}

}  // namespace baton::runtime

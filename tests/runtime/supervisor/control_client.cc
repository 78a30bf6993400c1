#include "tests/runtime/supervisor/control_client.h"

#include <poll.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "capnp/compat/json.h"
#include "capnp/message.h"

#include "ipc/poll_fd.h"
#include "ipc/schema_convert.h"

namespace baton::testing {

namespace schema = ipc::schema;

absl::StatusOr<ControlClient> ControlClient::Connect(const std::string& run_directory,
                                                     const std::string& name) {
  auto socket = ipc::ControlSocket::Connect(absl::StrCat(run_directory, "/", name, "/control.sock"),
                                            absl::Minutes(1));
  if (!socket.ok()) return socket.status();
  ControlClient client;
  client.socket_ = *std::move(socket);
  return client;
}

absl::StatusOr<ControlClient> ControlClient::Open(const std::string& run_directory,
                                                  const std::string& name, Role role,
                                                  bool wants_device) {
  auto client = Connect(run_directory, name);
  if (!client.ok()) return client.status();
  auto welcome = client->Call([&](Envelope::Builder to) {
    auto hello = to.initHello();
    hello.setProtocolVersion(schema::PROTOCOL_VERSION);
    hello.setRole(role);
    hello.setProgram("test");
    hello.setWantsDevice(wants_device);
  });
  if (!welcome.ok()) return welcome.status();
  if (!welcome->envelope().isWelcome()) return absl::InternalError("no welcome");
  return client;
}

absl::Status ControlClient::Send(const std::function<void(Envelope::Builder)>& fill,
                                 std::vector<int> fds) {
  capnp::MallocMessageBuilder message;
  fill(message.initRoot<Envelope>());
  return socket_.Send(message, fds);
}

absl::StatusOr<ipc::ControlMessage> ControlClient::Call(
    const std::function<void(Envelope::Builder)>& fill, std::vector<int> fds) {
  const uint64_t call = ++last_call_;
  absl::Status sent = Send(
      [&](Envelope::Builder to) {
        to.setCall(call);
        fill(to);
      },
      std::move(fds));
  if (!sent.ok()) return sent;
  while (true) {
    auto answer = Receive();
    if (!answer.ok()) return answer.status();
    if (answer->call() != call) continue;
    if (answer->envelope().isError()) return ipc::ReadStatus(answer->envelope().getError());
    return answer;
  }
}

bool ControlClient::IsClosed() {
  while (true) {
    const auto message = socket_.Receive(absl::Minutes(1));
    if (!message.ok()) return absl::IsUnavailable(message.status());
  }
}

absl::StatusOr<uint64_t> ControlClient::AwaitClosing(uint32_t count, uint64_t channel) {
  auto closing = Receive();
  if (!closing.ok()) return closing.status();
  if (!closing->envelope().isGenerationClosing()) {
    return absl::InternalError(
        absl::StrCat("it said ", static_cast<int>(closing->envelope().which())));
  }
  const uint64_t generation = closing->envelope().getGenerationClosing().getGeneration();
  const absl::Status answered = AnswerLeases(closing->call(), generation, count, channel);
  if (!answered.ok()) return answered;
  return closing->call();
}

absl::Status ControlClient::AnswerLeases(uint64_t call, uint64_t generation, uint32_t count,
                                         uint64_t channel) {
  return Send([&](Envelope::Builder to) {
    to.setCall(call);
    auto leases = to.initLeases();
    leases.setGeneration(generation);
    if (count == 0) return;
    auto held = leases.initHeld(1);
    held[0].setChannel(channel);
    held[0].setCount(count);
  });
}

absl::StatusOr<ipc::UniqueFd> ControlClient::AcceptArena() {
  auto offer = Receive();
  if (!offer.ok()) return offer.status();
  if (!offer->envelope().isImportArena()) {
    return absl::InternalError(
        absl::StrCat("it said ", static_cast<int>(offer->envelope().which())));
  }
  ipc::UniqueFd arena = offer->TakeFd(0);
  const uint64_t generation = offer->envelope().getImportArena().getGeneration();
  const absl::Status answered = Send([&](Envelope::Builder to) {
    auto imported = to.initImported();
    imported.setGeneration(generation);
    imported.initError();
  });
  if (!answered.ok()) return answered;
  return arena;
}

ControlClient::ServerStatus ControlClient::Status() {
  auto answer = Call([](Envelope::Builder to) { to.setStatus(); });
  if (!answer.ok()) return {.state = std::string(answer.status().message())};
  const auto status = answer->envelope().getStatusReply();
  return {.state = ipc::ReadText(status.getState()),
          .reason = ipc::ReadText(status.getReason()),
          .last_verdict = ipc::ReadText(status.getLastVerdict()),
          .generation = status.getGeneration(),
          .reloads = status.getReloads(),
          .restarts = status.getWorkerRestarts(),
          .device_bytes = status.getDeviceBytes(),
          .taken = status.getRequestsTaken(),
          .completed = status.getRequestsCompleted(),
          .channels = status.getChannels(),
          .fronts = status.getFronts(),
          .worker_pid = status.getWorkerPid(),
          .helper_pid = status.getHelperPid(),
          .ready = status.getReady(),
          .started = status.getStarted(),
          .secrets_reload = status.getSecretsReload()};
}

ControlClient::Reloaded ControlClient::Reload() {
  auto answer = Call([](Envelope::Builder to) { to.initReload().setTrigger("command"); });
  if (!answer.ok()) return {.status = answer.status()};
  const auto reply = answer->envelope().getReloadReply();
  const auto receipt = reply.getReceipt();
  return {.status = ipc::ReadStatus(reply.getError()),
          .outcome = ipc::ReadText(receipt.getOutcome()),
          .verdict = ipc::ReadText(receipt.getVerdict()),
          .reason = ipc::ReadText(receipt.getReason()),
          .trigger = ipc::ReadText(receipt.getTrigger()),
          .generation = receipt.getGeneration(),
          .successor = receipt.getSuccessor()};
}

std::vector<ReceiptLine> ParseReceipts(const std::vector<std::string>& lines) {
  std::vector<ReceiptLine> receipts;
  for (const std::string& line : lines) {
    capnp::JsonCodec codec;
    capnp::MallocMessageBuilder message;
    auto receipt = message.initRoot<schema::Receipt>();
    codec.decode(kj::ArrayPtr<const char>(line.data(), line.size()), receipt);
    const auto r = receipt.asReader();
    ReceiptLine parsed{.trigger = ipc::ReadText(r.getTrigger()),
                       .outcome = ipc::ReadText(r.getOutcome()),
                       .verdict = ipc::ReadText(r.getVerdict()),
                       .reason = ipc::ReadText(r.getReason()),
                       .exit_kind = ipc::ReadText(r.getExitKind()),
                       .generation = r.getGeneration(),
                       .successor = r.getSuccessor(),
                       .held = r.getRequestsHeld(),
                       .gap_ns = r.getGapNs(),
                       .before = r.getDeviceBytesBefore(),
                       .after = r.getDeviceBytesAfter(),
                       .peak = r.getDeviceBytesPeak(),
                       .model = r.getDeviceBytesModel(),
                       .imports_closed = r.getImportsClosed(),
                       .imports_cut_off = r.getImportsCutOff(),
                       .exit_code = r.getExitCode(),
                       .states = {},
                       .evidence = {},
                       .holders = ipc::ReadText(r.getHolders()),
                       .successor_pid = r.getSuccessorPid()};
    for (const auto one : r.getEvidence()) {
      parsed.evidence[ipc::ReadText(one.getFact())] =
          ipc::ReadText(one.getValue()) + " (" + ipc::ReadText(one.getSource()) + ")";
    }
    for (const auto state : r.getStates()) {
      parsed.states.push_back(ipc::ReadText(state.getState()));
    }
    receipts.push_back(std::move(parsed));
  }
  return receipts;
}

}  // namespace baton::testing

// SupervisorCore: what fronts and clients ask.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "ipc/futex.h"
#include "ipc/schema_convert.h"
#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {

namespace schema = ipc::schema;
using State = ipc::ServerState;

namespace {

constexpr size_t kMaxTriggerBytes = 32;

// What a client may call its reload, so that it can stand in a log line.
bool IsTrigger(const std::string& trigger) {
  return !trigger.empty() && trigger.size() <= kMaxTriggerBytes &&
         std::all_of(trigger.begin(), trigger.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || c == '-'; });
}

}  // namespace

void SupervisorCore::OnHello(SessionId session, uint64_t call, bool is_front) {
  // A front can do nothing before there is a signature; a client asks how it goes.
  if (is_front && methods_.empty()) {
    unwelcomed_.push_back({session, call});
  } else {
    Welcome(session, call, is_front);
  }
}

void SupervisorCore::Welcome(SessionId session, uint64_t call, bool is_front) {
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(call);
  auto welcome = envelope.initWelcome();
  welcome.setProtocolVersion(schema::PROTOCOL_VERSION);
  welcome.setServer(folder_.name());
  welcome.setGeneration(machine_.serving_generation());
  welcome.setMaxRequestBytes(max_request_bytes_);
  if (!methods_.empty()) ipc::WriteModel(methods_, welcome);
  if (!is_front) {
    fronts_.Reply(session, message);
    return;
  }
  const std::array<int, 3> fds = {pages_.status_fd(), pages_.worker_fd(), pages_.doorbell_fd()};
  fronts_.Reply(session, message, fds);
  for (const uint64_t generation : offered_) {
    if (const WorkerHandle* worker = Worker(generation)) {
      fronts_.OfferArena(session, worker->arena);
    }
  }
}

void SupervisorCore::OnStatusAsked(SessionId session, uint64_t call) {
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(call);
  FillStatus(envelope.initStatusReply());
  fronts_.Reply(session, message);
}

void SupervisorCore::FillStatus(schema::ServerStatus::Builder to) {
  const State state = machine_.state();
  const std::string_view name = ipc::ServerStateName(state);
  to.setServer(folder_.name());
  to.setDirectory(config_.directory);
  to.setLoader(config_.loader);
  to.setDevice(config_.device);
  to.setState(capnp::Text::Reader(name.data(), name.size()));
  to.setReason(CapReason(machine_.reason()));
  to.setGeneration(machine_.serving_generation());
  to.setLive(true);
  to.setReady(machine_.serves() && wedged_told_ != machine_.serving_generation() &&
              state != State::kStopping && Worker(machine_.serving_generation()) != nullptr);
  to.setStarted(!methods_.empty());
  to.setSupervisorPid(::getpid());
  if (const WorkerHandle* worker = Worker(machine_.serving_generation())) {
    to.setWorkerPid(worker->pid());
  }
  to.setWorkerRestarts(restarts_);
  to.setReloads(reloads_);
  to.setChannels(static_cast<uint32_t>(fronts_.channels().size()));
  to.setFronts(fronts_.fronts());
  // Relaxed: counters.
  to.setRequestsTaken(pages_.worker().taken.load(std::memory_order_relaxed));
  to.setRequestsCompleted(pages_.worker().completed.load(std::memory_order_relaxed));
  to.setBatches(pages_.worker().batches.load(std::memory_order_relaxed));
  to.setBatchRows(pages_.worker().batch_rows.load(std::memory_order_relaxed));
  to.setDeviceBytes(ledger_.BytesInUse());
  to.setDeviceCapacityBytes(DeviceCapacityBytes());
  to.setExpectedGapNs(static_cast<uint64_t>(expected_gap_ns_));
  to.setUptimeNs(static_cast<uint64_t>(ipc::MonotonicNs() - started_ns_));
  to.setLastVerdict(last_verdict_);
  to.setSecretsReload(watcher_.has_value());
  const loader::ReloadPolicy& policy = config_.reload;
  to.setStrategy(policy.strategy == loader::ReloadStrategy::kAuto      ? "auto"
                 : policy.strategy == loader::ReloadStrategy::kOverlap ? "overlap"
                                                                       : "exclusive");
  to.setUnconfirmedPolicy(policy.on_unconfirmed == loader::OnUnconfirmed::kOverride ? "override"
                                                                                    : "hold");
  to.setLastGapNs(static_cast<uint64_t>(last_gap_ns_));
  to.setGapsMeasured(gaps_measured_);
  to.setFailuresInARow(machine_.failures_in_a_row());
  if (machine_.retry_at_ns() != 0) {
    to.setRetryInNs(
        static_cast<uint64_t>(std::max<int64_t>(machine_.retry_at_ns() - ipc::MonotonicNs(), 1)));
  }
  to.setModelWatch(model_watcher_.has_value());
  to.setHelperPid(helper_.pid());
}

void SupervisorCore::OnReloadAsked(SessionId session, uint64_t call, const std::string& trigger,
                                   bool override_unconfirmed) {
  if (machine_.state() == State::kStopping || stop_waits_) {
    fronts_.ReplyError(session, call, absl::UnavailableError("the server is stopping"));
    return;
  }
  if (call != 0) waiting_next_.push_back({session, call});
  const bool confirming = machine_.step() == State::kConfirming;
  // What is being confirmed now is what is meant; otherwise it is for the reload that begins.
  if (override_unconfirmed && confirming) Push(ReloadEvent::Kind::kOverride);
  Push(ReloadEvent::Kind::kReloadRequested, 0, IsTrigger(trigger) ? trigger : "command");
  if (override_unconfirmed && !confirming) Push(ReloadEvent::Kind::kOverride);
}

void SupervisorCore::OnStopAsked(SessionId session, uint64_t call) {
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(call);
  envelope.setDone();
  fronts_.Reply(session, message);
  Push(ReloadEvent::Kind::kStop);
}

void SupervisorCore::OnChannelOpened(const ChannelRecord& channel) {
  for (auto& [generation, worker] : workers_) {
    if (worker->staged) Sent(generation, worker->AddChannel(channel));
  }
  // Nobody up: it may fill its ring already, and the next worker finds it.
  const WorkerHandle* serving = Worker(serve_told_);
  if (serving == nullptr || serving->hung_up_ns != 0) fronts_.ChannelUsable(channel.channel);
}

void SupervisorCore::OnChannelClosed(uint64_t channel) {
  refused_by_.erase(channel);
  for (auto& [generation, worker] : workers_) {
    if (worker->staged) Sent(generation, worker->RemoveChannel(channel));
  }
}

void SupervisorCore::OnImportsChanged() {
  const uint64_t old = machine_.old_generation();
  const uint64_t next = machine_.next_generation();
  if (machine_.step() == State::kClosing && fronts_.StillMapping(old) == 0) {
    Push(ReloadEvent::Kind::kImportsClosed, old);
  }
  if (machine_.step() == State::kRemapping && fronts_.NotYetMapped(next) == 0) {
    Push(ReloadEvent::Kind::kImportsMapped, next);
  }
}

void SupervisorCore::OnLeasesChanged() {
  const uint64_t old = machine_.old_generation();
  if (machine_.step() != State::kDraining) return;
  const std::string holders = fronts_.LeaseHolders(old);
  if (draft_) draft_->holders = holders;
  if (holders.empty()) {
    Push(ReloadEvent::Kind::kLeasesReturned, old);
  } else {
    Push(ReloadEvent::Kind::kLeasesHeld, old, holders);
  }
}

}  // namespace baton::runtime

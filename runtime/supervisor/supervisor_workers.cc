// SupervisorCore: what workers say, and how they end.
#include <fcntl.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/arena_token.h"
#include "ipc/futex.h"
#include "ipc/redact.h"
#include "ipc/schema_convert.h"
#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {

namespace schema = ipc::schema;
using schema::Envelope;

namespace {

// What a worker says, without the secrets that it was given (A16). The worker takes them out
// itself; but it runs the model's code.
std::string WithoutSecrets(std::string_view text, const SecretsSnapshot& secrets) {
  std::vector<std::string_view> values;
  for (const auto& [key, value] : secrets.values) values.emplace_back(value.data(), value.size());
  return ipc::Redacted(text, values);
}

}  // namespace

WorkerHandle* SupervisorCore::Worker(uint64_t generation) {
  const auto found = workers_.find(generation);
  return found == workers_.end() ? nullptr : found->second.get();
}

// A worker that is gone will be reaped. One that does not read for long is
// found by CheckWorkers.
void SupervisorCore::Sent(uint64_t generation, const absl::Status& status) {
  if (const WorkerHandle* worker = Worker(generation)) {
    loop_->WatchWritable(worker->socket_fd(), worker->stalled_since_ns() != 0);
  }
  if (status.ok() || absl::IsUnavailable(status)) return;
  Push(ReloadEvent::Kind::kWorkerFailed, generation,
       absl::StrCat("it does not take messages: ", std::string(status.message())));
}

void SupervisorCore::FlushWorker(uint64_t generation) {
  WorkerHandle* worker = Worker(generation);
  if (worker != nullptr && worker->stalled_since_ns() != 0) Sent(generation, worker->Flush());
}

void SupervisorCore::ReadOutput(uint64_t generation, size_t most) {
  WorkerHandle* worker = Worker(generation);
  if (worker == nullptr || worker->output().Read(most)) return;
  loop_->Forget(worker->output().fd());
}

void SupervisorCore::ReadWorker(uint64_t generation, int most) {
  for (int i = 0; i < most; ++i) {
    WorkerHandle* worker = Worker(generation);
    if (worker == nullptr) return;
    auto message = worker->Receive();
    absl::Status status = message.status();
    if (status.ok() && !*message) return;
    if (status.ok()) status = HandleWorker(*worker, *std::move(*message));
    if (status.ok()) continue;
    loop_->Forget(worker->socket_fd());
    worker->hung_up_ns = ipc::MonotonicNs();  // its pidfd tells how it ended
    if (!absl::IsUnavailable(status)) {
      // What could not be read may have told of its arena: nobody can say that it is gone (A27).
      if (worker->admitted && !worker->ready && !ledger_.Watches(generation)) {
        ledger_.AddUnwatched(generation, std::string(status.message()));
      }
      Push(ReloadEvent::Kind::kWorkerFailed, generation, std::string(status.message()));
    }
    return;
  }
}

absl::Status SupervisorCore::HandleWorker(WorkerHandle& worker, ipc::ControlMessage message) {
  const Envelope::Reader envelope = message.envelope();
  const uint64_t generation = worker.generation();
  // What it wrote before it said this comes first in the log, too.
  ReadOutput(generation, WorkerOutput::kPipeBytes);
  switch (envelope.which()) {
    case Envelope::STAGED:
      return WorkerStaged(worker, message);
    case Envelope::ARENA:
      return WorkerArena(worker, message);
    case Envelope::READY:
      return WorkerReady(worker, message);
    case Envelope::FAILED: {
      const absl::Status failed = ipc::ReadStatus(envelope.getFailed());
      failure_code_ = failed.ok() ? absl::StatusCode::kInternal : failed.code();
      const std::string why = WithoutSecrets(std::string(failed.message()), *worker.secrets());
      log_->error("generation {} failed: {}", generation, why);
      Push(ReloadEvent::Kind::kWorkerFailed, generation, why);
      break;
    }
    case Envelope::HELD:
      if (!worker.AnswersHold(envelope.getCall())) break;
      // What it had in flight has ended, some of it perhaps with results on the device.
      fronts_.AskLeasesAgain(generation);
      OnLeasesChanged();
      Push(ReloadEvent::Kind::kHeld, generation);
      break;
    case Envelope::CHANNEL_ADDED:
      // Only the one that serves makes a channel usable; the next one gets it before it serves. So
      // may one that leaves: its successor was given the channel, too, and may have answered before
      // it was told to serve.
      if (generation <= serve_told_) {
        fronts_.ChannelUsable(envelope.getChannelAdded().getChannel());
      } else {
        refused_by_.erase(envelope.getChannelAdded().getChannel());
      }
      ChannelAnswered(worker, envelope.getChannelAdded().getChannel());
      break;
    case Envelope::CHANNEL_REFUSED: {
      const auto refused = envelope.getChannelRefused();
      ChannelRefused(generation, refused.getChannel(), ipc::ReadStatus(refused.getError()));
      ChannelAnswered(worker, refused.getChannel());
      break;
    }
    case Envelope::CHANNEL_REMOVED:
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("it said ", static_cast<int>(envelope.which()), ", which no worker says"));
  }
  return absl::OkStatus();
}

void SupervisorCore::ChannelRefused(uint64_t generation, uint64_t channel,
                                    const absl::Status& why) {
  const WorkerHandle* serving = Worker(serve_told_);
  const bool serves = serving != nullptr && serving->hung_up_ns == 0;
  if (generation != serve_told_ && serves && fronts_.channels().contains(channel)) {
    // The one that serves gets along with it, so the newcomer may be what is wrong. Once; two in a
    // row that cannot read it speak against the channel, and no front may keep every reload from
    // going through.
    const uint64_t before = std::exchange(refused_by_[channel], generation);
    if (before != 0 && before != generation) {
      fronts_.ChannelRefused(channel, why, /*end_front=*/true);
      return;
    }
    Push(ReloadEvent::Kind::kWorkerFailed, generation,
         absl::StrCat("it refused channel ", channel, ": ", std::string(why.message())));
    return;
  }
  // With nobody to fall back to, one front's channel must not keep the server down.
  fronts_.ChannelRefused(channel, why, /*end_front=*/generation != serve_told_);
}

absl::Status SupervisorCore::WorkerStaged(WorkerHandle& worker, ipc::ControlMessage& message) {
  const auto staged = message.envelope().getStaged();
  absl::StatusOr<std::vector<Method>> methods = ipc::ReadModel(staged);
  if (!methods.ok()) return methods.status();
  if (worker.staged) return absl::InvalidArgumentError("it said staged twice");
  // Fronts have laid out their blocks by the signature that they were welcomed with.
  if (!methods_.empty() && !SameCalls(*methods, methods_)) {
    const std::string why =
        "the model's signature has changed; a running server keeps its own. Start another server";
    log_->error("generation {}: {}", worker.generation(), why);
    Push(ReloadEvent::Kind::kWorkerFailed, worker.generation(), why);
    return absl::OkStatus();
  }
  // Channels have their slices for as long as they live.
  if (staged.getDeviceResultsBytes() < fronts_.DeviceSlicesEnd()) {
    const std::string why = absl::StrCat(
        "limits.device_results and limits.device_inputs are ", staged.getDeviceResultsBytes(),
        " bytes now, and channels that are open have slices of it up to ",
        fronts_.DeviceSlicesEnd(), ". Close them first, or start another server");
    log_->error("generation {}: {}", worker.generation(), why);
    Push(ReloadEvent::Kind::kWorkerFailed, worker.generation(), why);
    return absl::OkStatus();
  }
  worker.staged = true;
  worker.methods = *std::move(methods);
  worker.max_request_bytes = staged.getMaxRequestBytes();
  worker.device_bytes = staged.getDeviceBytes();
  worker.device_total_bytes = staged.getDeviceTotalBytes();
  worker.device_results_bytes = staged.getDeviceResultsBytes();
  device_total_bytes_ = worker.device_total_bytes;
  // It counts as staged when it has mapped them all: mapping belongs to the time in which the
  // worker before it still serves, and so does finding out that it cannot.
  for (const auto& [id, channel] : fronts_.channels()) {
    worker.unmapped_channels.insert(id);
    Sent(worker.generation(), worker.AddChannel(channel));
  }
  if (worker.unmapped_channels.empty()) {
    Staged(worker);
  }
  return absl::OkStatus();
}

void SupervisorCore::Staged(const WorkerHandle& worker) {
  if (stop_waits_ || AwaitsSurvey(worker.generation())) return;
  ReloadEvent event{ReloadEvent::Kind::kWorkerStaged, worker.generation(), "", false};
  if (machine_.step() == ipc::ServerState::kStaging) {
    const StrategyChoice choice = Strategy(worker);
    event.overlap = choice.overlap;
    if (draft_) {
      draft_->strategy = choice.name();
      draft_->strategy_reason = choice.reason;
    }
  }
  events_.push_back(std::move(event));
}

void SupervisorCore::ChannelAnswered(WorkerHandle& worker, uint64_t channel) {
  if (worker.unmapped_channels.erase(channel) > 0 && worker.unmapped_channels.empty()) {
    Staged(worker);
  }
}

// It has allocated, and none of the model's code has run on it yet.
absl::Status SupervisorCore::WorkerArena(WorkerHandle& worker, ipc::ControlMessage& message) {
  const auto arena = message.envelope().getArena();
  const uint64_t generation = worker.generation();
  // A second arena would be one that nobody watches.
  if (!worker.admitted || worker.ready || worker.arena.bytes != 0) {
    return absl::InvalidArgumentError("it told of an arena when nobody had asked");
  }
  worker.arena.fd = message.TakeFd(0);
  worker.arena.bytes = arena.getBytes();
  worker.arena.generation = generation;
  const auto token = arena.getToken();
  worker.arena.token.assign(reinterpret_cast<const char*>(token.begin()), token.size());
  absl::Status watched;
  if (arena.getGeneration() != generation || worker.arena.bytes == 0) {
    watched = absl::InvalidArgumentError("it told of an arena that is not its own");
  } else {
    ipc::ArenaExport copy;
    if (worker.arena.fd) copy.fd.reset(::fcntl(worker.arena.fd.get(), F_DUPFD_CLOEXEC, 0));
    copy.token = worker.arena.token;
    copy.bytes = worker.arena.bytes;
    copy.generation = generation;
    const auto what = ipc::cuda::DescribeArena(copy);
    watched = what.ok() ? ledger_.Add(std::move(copy), *what, worker.identity()) : what.status();
  }
  // What cannot be watched cannot be confirmed gone: it must not serve, nor count as freed when
  // its worker has ended (A27).
  if (!watched.ok()) ledger_.AddUnwatched(generation, std::string(watched.message()));
  return watched;
}

// What fronts are to import a GPU's memory by; it was told of before it was there. That it names
// the device and the process which are watched is all that is believed of it.
absl::Status SupervisorCore::TakeHandle(WorkerHandle& worker, ipc::ControlMessage& message) {
  if (worker.arena.token.empty()) return absl::OkStatus();
  const auto token = message.envelope().getReady().getToken();
  const absl::StatusOr<ipc::cuda::ArenaToken> handed =
      ipc::cuda::ParseArenaToken({reinterpret_cast<const char*>(token.begin()), token.size()});
  if (!handed.ok()) return handed.status();
  const absl::StatusOr<ipc::cuda::ArenaToken> told = ipc::cuda::ParseArenaToken(worker.arena.token);
  if (!told.ok()) return told.status();
  if (handed->owner != told->owner || handed->device_uuid != told->device_uuid ||
      handed->bytes != told->bytes || handed->generation != told->generation) {
    return absl::InvalidArgumentError("it is ready with another device arena than it told of");
  }
  worker.arena.token.assign(reinterpret_cast<const char*>(token.begin()), token.size());
  if (message.fd_count() > 0) worker.arena.fd = message.TakeFd(0);
  return absl::OkStatus();
}

absl::Status SupervisorCore::WorkerReady(WorkerHandle& worker, ipc::ControlMessage& message) {
  const auto ready = message.envelope().getReady();
  if (!worker.admitted || worker.ready) {
    return absl::InvalidArgumentError("it said ready when nobody had asked");
  }
  if (ready.getGeneration() != worker.generation()) {
    return absl::InvalidArgumentError("it is ready as another generation");
  }
  if (ready.getBytes() != worker.arena.bytes) {
    return absl::InvalidArgumentError("it is ready with another arena than it told of");
  }
  if (absl::Status handed = TakeHandle(worker, message); !handed.ok()) return handed;
  worker.ready = true;
  worker.arena.generation = worker.generation();
  if (draft_) log_->info("Successfully loaded model from subprocess");
  if (machine_.serves()) survey_.Want();  // `overlap`: both are there now
  Push(ReloadEvent::Kind::kWorkerReady, worker.generation());
  return absl::OkStatus();
}

void SupervisorCore::WorkerEnded(uint64_t generation) {
  WorkerHandle* worker = Worker(generation);
  if (worker == nullptr) return;
  // Its last words say more than a number. It is dead, so there is an end to them.
  if (worker->hung_up_ns == 0) ReadWorker(generation, std::numeric_limits<int>::max());
  auto reaped = worker->TryReap();
  if (reaped.ok() && !*reaped) return;
  const Ended ended{worker->pid(), reaped.ok() ? **reaped : ipc::ExitStatus{}};
  loop_->Forget(worker->output().fd());
  worker->output().Finish();
  loop_->Forget(worker->pidfd());
  loop_->Forget(worker->socket_fd());
  workers_.erase(generation);
  // Before anything else: fronts settle what it had started by this.
  pages_.ShowReaped(ReapedUpTo());
  orphans_.Look();  // before anybody asks what is still mapped
  ended_[generation] = ended;
  if (draft_ && draft_->generation == generation) FillExit(ended, *draft_);
  const std::string how = ipc::ToString(ended.status);
  const bool expected =
      generation == machine_.old_generation() && machine_.step() == ipc::ServerState::kExiting;
  if (generation == machine_.serving_generation() && !expected) {
    ++restarts_;
    log_->error("generation {} (pid {}) {}", generation, ended.pid, how);
  } else {
    log_->info("generation {} (pid {}) {}", generation, ended.pid, how);
  }
  // It answers openChannel no more; every generation after it gets every channel.
  if (generation <= serve_told_) {
    std::vector<uint64_t> opening;
    for (const auto& [id, channel] : fronts_.channels()) {
      if (channel.open_call != 0) opening.push_back(id);
    }
    for (const uint64_t id : opening) fronts_.ChannelUsable(id);
  }
  Push(ReloadEvent::Kind::kWorkerExited, generation, how);
}

Orphans::Owner SupervisorCore::OrphansOwner() {
  return {.is_ours =
              [this](pid_t pid) {
                return helper_.Owns(pid) ||
                       std::any_of(workers_.begin(), workers_.end(), [pid](const auto& worker) {
                         return worker.second->pid() == pid;
                       });
              },
          .lives = [this](uint64_t generation) { return workers_.contains(generation); }};
}

// The highest generation below which every one is dead.
uint64_t SupervisorCore::ReapedUpTo() const {
  return workers_.empty() ? last_spawned_ : workers_.begin()->first - 1;
}

}  // namespace baton::runtime

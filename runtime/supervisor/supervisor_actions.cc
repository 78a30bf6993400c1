// SupervisorCore: what the reload machine wants done.
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/futex.h"
#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {

using State = ipc::ServerState;

namespace {

// Of what a worker writes, before others have a turn.
constexpr size_t kOutputBytesATurn = 64 << 10;

// All of the machine's memory: what the host device has where nobody set a limit.
uint64_t TotalMemoryBytes() {
  return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// "supervisor.DRAINING": everybody can see the step now, nothing of it is done.
void PassStep(State step) {
  switch (step) {
#define BATON_STEP_POINT(state, name)      \
  case State::state:                       \
    BATON_CRASH_POINT("supervisor." name); \
    break
    BATON_STEP_POINT(kStarting, "STARTING");
    BATON_STEP_POINT(kServing, "SERVING");
    BATON_STEP_POINT(kStaging, "STAGING");
    BATON_STEP_POINT(kHolding, "HOLDING");
    BATON_STEP_POINT(kDraining, "DRAINING");
    BATON_STEP_POINT(kClosing, "CLOSING");
    BATON_STEP_POINT(kExiting, "EXITING");
    BATON_STEP_POINT(kConfirming, "CONFIRMING");
    BATON_STEP_POINT(kAdmitting, "ADMITTING");
    BATON_STEP_POINT(kRemapping, "REMAPPING");
    BATON_STEP_POINT(kUnavailable, "UNAVAILABLE");
    BATON_STEP_POINT(kStopping, "STOPPING");
    BATON_STEP_POINT(kStopped, "STOPPED");
#undef BATON_STEP_POINT
  }
}

}  // namespace

void SupervisorCore::Perform(const ReloadAction& action) {
  using Kind = ReloadAction::Kind;
  const uint64_t generation = action.generation;
  WorkerHandle* worker = Worker(generation);
  switch (action.kind) {
    case Kind::kBegin:
      BeginReceipt(generation, action.detail);
      break;
    case Kind::kJoin:
      std::move(waiting_next_.begin(), waiting_next_.end(), std::back_inserter(waiting_now_));
      waiting_next_.clear();
      break;
    case Kind::kEnter:
      EnterStep(action.step);
      break;
    case Kind::kSpawn:
      Spawn(generation, action.last_good);
      break;
    case Kind::kAdmit:
      Admit(generation);
      break;
    case Kind::kServe:
      Serve(generation);
      break;
    case Kind::kHold:
      if (worker != nullptr) Sent(generation, worker->Hold());
      break;
    case Kind::kTellClosing:
      offered_.erase(generation);
      fronts_.TellClosing(generation);
      OnLeasesChanged();
      break;
    case Kind::kTellKept:
      fronts_.TellKept(generation);
      offered_.insert(generation);
      if (worker != nullptr) fronts_.OfferArena(worker->arena);
      break;
    case Kind::kExit:
      ledger_.Leaving(generation);
      if (worker != nullptr) Sent(generation, worker->Exit());
      break;
    case Kind::kKill:
      if (worker != nullptr) worker->Kill();
      break;
    case Kind::kCloseImports:
      offered_.erase(generation);
      fronts_.AskToClose(generation);
      OnImportsChanged();
      break;
    case Kind::kCutOffClosers: {
      const uint32_t cut_off = fronts_.CutOffMapping(generation);
      if (draft_) draft_->imports_cut_off += cut_off;
      break;
    }
    case Kind::kMapImports:
      offered_.insert(generation);
      if (worker != nullptr) fronts_.OfferArena(worker->arena);
      OnImportsChanged();
      break;
    case Kind::kCutOffMappers: {
      const uint32_t cut_off = fronts_.CutOffNotYetMapped(generation);
      if (draft_) draft_->imports_cut_off += cut_off;
      break;
    }
    case Kind::kConfirm:
      Confirm(generation);
      break;
    case Kind::kOverridden:
      Overridden(generation);
      break;
    case Kind::kUnconfirmed:
      last_verdict_ = verdict_.text;
      log_->error("{}", machine_.reason());
      AnswerAllWaiters(absl::UnavailableError(machine_.reason()));
      break;
    case Kind::kStillUnavailable:
      log_->error("unavailable: {}", machine_.reason());
      AnswerAllWaiters(absl::UnavailableError(machine_.reason()));
      break;
    case Kind::kFailedGeneration:
      WriteFailedReceipt(generation, action.detail);
      break;
    case Kind::kFinish:
      FinishReceipt(action.outcome, action.detail);
      break;
    case Kind::kStopped:
      Stopped(action.detail);
      break;
  }
}

void SupervisorCore::EnterStep(State step) {
  const int64_t now = ipc::MonotonicNs();
  ledger_.Sample();
  if (draft_) draft_->Enter(step, now);
  log_->debug("{}", ipc::ServerStateName(step));
  // With `overlap` the successor serves while the one before it is on its way out.
  if (step == State::kHolding || (step == State::kClosing && !machine_.serves())) StartHold();
  if (step == State::kExiting && draft_ && draft_->generation == machine_.old_generation()) {
    draft_->imports_closed = fronts_.closed_imports();
    draft_->Know("imports-closed", fronts_.ClosedImports(),
                 "importsClosed, or the end of a connection");
  }
  const bool stopping = machine_.state() == State::kStopping;
  pages_.ShowState(stopping ? State::kStopping : step, machine_.serving_generation());
  PassStep(step);
  if (step == State::kUnavailable) {
    log_->error("unavailable: {}", machine_.reason());
    AnswerAllWaiters(absl::UnavailableError(machine_.reason()));
  }
}

void SupervisorCore::StartHold() {
  if (hold_started_ns_ != 0) return;
  hold_started_ns_ = ipc::MonotonicNs();
  // Relaxed: counters.
  failed_before_ = pages_.worker().failed.load(std::memory_order_relaxed);
  expired_before_ = pages_.worker().expired.load(std::memory_order_relaxed);
  if (machine_.serving_generation() != 0) pages_.ShowHold(hold_started_ns_);
}

// Somebody serves again: a successor, or the one that was to be replaced.
void SupervisorCore::EndHold(bool swapped) {
  if (hold_started_ns_ == 0) return;
  const int64_t gap = ipc::MonotonicNs() - std::exchange(hold_started_ns_, 0);
  if (draft_) draft_->gap_ns += static_cast<uint64_t>(gap);
  if (swapped) {
    // The next gap is likely as the last ones were, the latest most of all. A drain that came to
    // nothing says nothing about it.
    last_gap_ns_ = gap;
    ++gaps_measured_;
    expected_gap_ns_ = expected_gap_ns_ == 0 ? gap : (expected_gap_ns_ + gap) / 2;
    pages_.ShowExpectedGap(expected_gap_ns_);
  }
  pages_.ShowHold(0);
}

std::shared_ptr<const SecretsSnapshot> SupervisorCore::NewestSecrets() {
  if (options_.secrets_directory.empty()) return std::make_shared<SecretsSnapshot>();
  // The watcher's settled view, so that it does not report later what is loaded now.
  auto newest = std::make_shared<SecretsSnapshot>(
      watcher_ ? watcher_->current() : ReadSecrets(options_.secrets_directory));
  LogSecretsProblems(*newest);
  return newest;
}

void SupervisorCore::WatchModel() {
  if (!config_.reload.watch) {
    model_watcher_.reset();
  } else if (model_watcher_) {
    model_watcher_->Loaded(ipc::MonotonicNs());
  } else {
    model_watcher_.emplace(config_.directory, ipc::MonotonicNs());
  }
}

void SupervisorCore::Spawn(uint64_t generation, bool last_good) {
  last_spawned_ = generation;
  if (draft_) {
    log_->info("Creating new model instance in isolated subprocess...");
  } else {
    log_->info("starting worker generation {}", generation);
  }
  // Before anything of the model is read: what changes from now on is a change.
  WatchModel();
  const bool fall_back = last_good && last_good_secrets_ != nullptr;
  WorkerSpec spec;
  if (fall_back) {
    spec.config = last_good_config_;
  } else if (auto text = loader::ReadModelConfigText(options_.directory); text.ok()) {
    spec.config = *text;
  }
  // A broken file is the worker's to complain about; until then the old limits hold.
  if (auto config = loader::LoadModelConfig(options_.directory, spec.config); config.ok()) {
    machine_.set_policy(config->reload);
    config_.reload = config->reload;
    config_.device_capacity_bytes = config->device_capacity_bytes;
    if (options_.device.empty()) config_.device = config->device;
    if (config->reload.watch != model_watcher_.has_value()) WatchModel();
  }
  spec.executable = options_.worker_executable;
  spec.server = folder_.name();
  spec.directory = config_.directory;
  spec.device = options_.device;
  spec.generation = generation;
  spec.worker_page_fd = pages_.worker_fd_writable();
  spec.doorbell_fd = pages_.doorbell_fd();
  spec.life_fd = folder_.life_fd();
  spec.secrets = fall_back ? last_good_secrets_ : NewestSecrets();
  spec.log = [log = output_log_](std::string_view line) {
    log->info(spdlog::string_view_t(line.data(), line.size()));
  };
  absl::StatusOr<std::unique_ptr<WorkerHandle>> worker =
      BATON_FAIL_POINT("supervisor.read_secrets")
          ? absl::InternalError("the secrets are not read at the point supervisor.read_secrets")
          : WorkerHandle::Spawn(spec);
  if (worker.ok()) {
    absl::Status watched =
        loop_->Watch((*worker)->pidfd(), [this, generation] { WorkerEnded(generation); });
    watched.Update(loop_->Watch((*worker)->socket_fd(), [this, generation] {
      FlushWorker(generation);
      ReadWorker(generation);
    }));
    watched.Update(loop_->Watch((*worker)->output().fd(),
                                [this, generation] { ReadOutput(generation, kOutputBytesATurn); }));
    if (watched.ok()) {
      workers_[generation] = *std::move(worker);
      return;
    }
    loop_->Forget((*worker)->pidfd());
    loop_->Forget((*worker)->socket_fd());
    loop_->Forget((*worker)->output().fd());
    worker = watched;
  }
  failure_code_ = worker.status().code();
  Push(ReloadEvent::Kind::kWorkerFailed, generation, std::string(worker.status().message()));
  Push(ReloadEvent::Kind::kWorkerExited, generation, "it never ran");
}

StrategyChoice SupervisorCore::Strategy(const WorkerHandle& successor) const {
  return ChooseStrategy(config_.reload.strategy,
                        {.serving_bytes = ledger_.BytesInUse(machine_.serving_generation()),
                         .successor_bytes = successor.device_bytes,
                         .in_use_bytes = ledger_.BytesInUse(),
                         .capacity_bytes = DeviceCapacityBytes()});
}

uint64_t SupervisorCore::DeviceCapacityBytes() const {
  if (config_.device_capacity_bytes != 0) return config_.device_capacity_bytes;
  return device_total_bytes_ != 0 ? device_total_bytes_ : TotalMemoryBytes();
}

void SupervisorCore::Admit(uint64_t generation) {
  WorkerHandle* worker = Worker(generation);
  if (worker == nullptr) return;
  const uint64_t capacity = DeviceCapacityBytes();
  const uint64_t used = ledger_.BytesInUse();
  worker->admitted = true;
  Sent(generation, worker->Admit(capacity - std::min(used, capacity)));
}

void SupervisorCore::Serve(uint64_t generation) {
  WorkerHandle* worker = Worker(generation);
  if (worker == nullptr) return;
  if (draft_ && hold_started_ns_ != 0) {
    for (const auto& [id, channel] : fronts_.channels()) {
      draft_->requests_held += CountWaitingRequests(channel);
    }
  }
  Sent(generation, worker->Serve());
  serve_told_ns_ = ipc::MonotonicNs();
  const bool swapped = std::exchange(serve_told_, generation) != generation;
  EndHold(swapped);
  if (!swapped) return;  // a hold has ended
  survey_.Want();

  const bool first = methods_.empty();
  methods_ = worker->methods;
  max_request_bytes_ = worker->max_request_bytes;
  device_results_bytes_ = worker->device_results_bytes;
  last_good_secrets_ = worker->secrets();
  last_good_config_ = worker->config();
  if (first) {
    offered_.insert(generation);
    if (auto log = ReceiptLog::Open(folder_.receipts()); log.ok()) {
      receipts_ = *std::move(log);
    } else {
      log_->error("receipts are not written: {}", std::string(log.status().message()));
    }
    for (const Waiter& waiter : std::exchange(unwelcomed_, {})) {
      Welcome(waiter.session, waiter.call, true);
    }
    log_->info("generation {} serves (worker pid {})", generation, worker->pid());
    if (options_.on_ready) options_.on_ready(folder_.name(), generation);
  }
}

void SupervisorCore::Stopped(const std::string& why) {
  stopped_ = true;
  AnswerWaiters(absl::CancelledError("the server was told to stop"));
  if (!why.empty()) result_ = absl::Status(failure_code_, why);
  log_->info("stopped");
}

}  // namespace baton::runtime

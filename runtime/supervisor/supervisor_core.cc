#include "runtime/supervisor/supervisor_core.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/open_device.h"
#include "ipc/segment.h"
#include "runtime/executable_path.h"

namespace baton::runtime {

using State = ipc::ServerState;

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// How often device use is measured while generations change places.
constexpr int64_t kSampleNs = kNsPerMs;
// How long after its socket a worker's process may take to end.
constexpr int64_t kHungUpGraceNs = 1000 * kNsPerMs;
// How late the loop may be before that is nobody's fault but its own.
constexpr int64_t kStandstillNs = 1000 * kNsPerMs;
// How long what is left of a killed server may take to end by itself, and after SIGKILL.
constexpr absl::Duration kPredecessorGrace = absl::Seconds(2);
constexpr absl::Duration kPredecessorPatience = absl::Seconds(30);
constexpr int64_t kWedgeCheckNs = 250 * kNsPerMs;
// How often it is looked for what workers have left behind; and while one serves and nothing else
// happens, when most of it was found by the look that a worker's end brings.
constexpr int64_t kOrphansNs = 250 * kNsPerMs;
constexpr int64_t kOrphansServingNs = 2000 * kNsPerMs;
// How long nobody is accepted after it did not work (out of descriptors).
constexpr int64_t kAcceptPauseNs = 100 * kNsPerMs;
// How long a worker may read nothing of what waits for it.
constexpr int64_t kStalledNs = 10'000 * kNsPerMs;

int64_t Sooner(int64_t a, int64_t b) {
  if (a == 0 || b == 0) return a + b;
  return std::min(a, b);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SupervisorCore>> SupervisorCore::Create(SupervisorOptions options) {
  absl::StatusOr<loader::ModelConfig> config = loader::LoadModelConfig(options.directory);
  if (!config.ok()) return config.status();
  if (!options.device.empty()) config->device = options.device;
  // Whether there is such a device the first worker finds out: no driver is loaded here.
  if (auto device = ipc::ParseDeviceName(config->device); !device.ok()) return device.status();
  if (options.name.empty()) options.name = config->name;
  if (options.worker_executable.empty()) {
    absl::StatusOr<std::string> worker = FindExecutable("baton-worker");
    if (!worker.ok()) return worker.status();
    options.worker_executable = *std::move(worker);
  }
  if (options.confirm_executable.empty()) {
    absl::StatusOr<std::string> helper = FindExecutable("baton-confirm");
    if (!helper.ok()) return helper.status();
    options.confirm_executable = *std::move(helper);
  }
  absl::StatusOr<ipc::RunDirectory> directory =
      options.run_directory.empty() ? ipc::RunDirectory::Open()
                                    : ipc::RunDirectory::OpenAt(options.run_directory);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<ipc::ServerFolder> folder = directory->Claim(options.name);
  if (!folder.ok()) return folder.status();
  if (absl::Status gone = folder->AwaitPredecessor(kPredecessorGrace, kPredecessorPatience);
      !gone.ok()) {
    return gone;
  }
  ipc::SweepStaleSegments();
  absl::StatusOr<StatusPages> pages = StatusPages::Create();
  if (!pages.ok()) return pages.status();
  absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create();
  if (!loop.ok()) return loop.status();
  std::unique_ptr<SupervisorCore> core(new SupervisorCore(std::move(options), *std::move(config),
                                                          *std::move(folder), *std::move(pages),
                                                          *std::move(loop)));
  if (absl::Status status = core->SetUp(); !status.ok()) return status;
  return core;
}

SupervisorCore::SupervisorCore(SupervisorOptions options, loader::ModelConfig config,
                               ipc::ServerFolder folder, StatusPages pages,
                               std::unique_ptr<EventLoop> loop)
    : options_(std::move(options)),
      config_(std::move(config)),
      folder_(std::move(folder)),
      log_(MakeServerLog(folder_.name())),
      output_log_(MakeOutputLog()),
      pages_(std::move(pages)),
      loop_(std::move(loop)),
      fronts_(*loop_, *this, log_, options_.limits),
      helper_(
          *loop_, log_, {options_.confirm_executable, folder_.name()},
          [this](const ConfirmQuestion& question, const DeviceVerdict& verdict) {
            Answered(question, verdict);
          },
          [this](uint64_t generation, const absl::StatusOr<ipc::cuda::GpuSurvey>& survey) {
            Surveyed(generation, survey);
          }),
      orphans_(*loop_, log_, OrphansOwner()),
      machine_(config_.reload) {}

SupervisorCore::~SupervisorCore() {
  for (auto& [generation, worker] : workers_) worker->Kill();  // all first, then wait for each
  workers_.clear();
}

absl::Status SupervisorCore::SetUp() {
  absl::StatusOr<ipc::UniqueFd> stop = ipc::CreateEventFd();
  if (!stop.ok()) return stop.status();
  stop_event_ = *std::move(stop);
  absl::StatusOr<ipc::ControlListener> listener =
      ipc::ControlListener::Listen(folder_.control_socket());
  if (!listener.ok()) return listener.status();
  listener_ = *std::move(listener);
  started_ns_ = ipc::MonotonicNs();
  if (absl::Status inherits = orphans_.Begin(); !inherits.ok()) {
    log_->warn("what models leave behind is not looked for: {}", std::string(inherits.message()));
  }
  helper_.Start(started_ns_);

  absl::Status status = loop_->Watch(listener_.fd(), [this] { Accept(); });
  status.Update(loop_->Watch(stop_event_.get(), [this] {
    ipc::DrainEventFd(stop_event_.get());
    Push(ReloadEvent::Kind::kStop);
  }));
  if (options_.die_with_fd >= 0) status.Update(WatchLauncher());
  if (!options_.secrets_directory.empty() && !options_.disable_secrets_reload) {
    watcher_.emplace(options_.secrets_directory, started_ns_);
    // Without inotify its deadline does all.
    if (watcher_->fd() >= 0) {
      status.Update(loop_->Watch(watcher_->fd(), [this] { CheckSecrets(ipc::MonotonicNs()); }));
    }
  }
  return status;
}

// The descriptor ends when its other end is closed everywhere, and a child that
// the launcher has forked holds it open. So the launcher itself is watched, too.
absl::Status SupervisorCore::WatchLauncher() {
  const auto gone = [this] {
    loop_->Forget(options_.die_with_fd);
    if (launcher_) loop_->Forget(launcher_->pidfd());
    log_->info("the process that launched this server is gone");
    Push(ReloadEvent::Kind::kStop);
  };
  absl::Status status = loop_->Watch(options_.die_with_fd, gone);
  // 0: in another pid namespace; then the descriptor alone has to do.
  const pid_t parent = ::getppid();
  if (!status.ok() || parent <= 0) return status;
  const auto identity = ipc::ProcessIdentity::Of(parent);
  if (!identity.ok()) return status;  // no /proc
  auto watch = ipc::ProcessWatch::Open(*identity);
  // Whoever has another parent by now was watching a stranger.
  if (!watch.ok() || ::getppid() != parent) {
    Push(ReloadEvent::Kind::kStop);
    return status;
  }
  launcher_.emplace(*std::move(watch));
  return loop_->Watch(launcher_->pidfd(), gone);
}

void SupervisorCore::Accept() {
  const absl::Status status = fronts_.Accept(listener_);
  if (status.ok()) return;
  const int64_t now = ipc::MonotonicNs();
  // Said once for as long as it goes on.
  if (now > accept_again_ns_ + 10 * kAcceptPauseNs) {
    log_->error("cannot accept connections: {}", std::string(status.message()));
  }
  loop_->Forget(listener_.fd());
  accept_paused_ = true;
  accept_again_ns_ = now + kAcceptPauseNs;
}

void SupervisorCore::AcceptAgain() {
  accept_paused_ = false;
  if (listener_.fd() < 0) return;  // stopping
  const absl::Status watched = loop_->Watch(listener_.fd(), [this] { Accept(); });
  if (watched.ok()) return;
  accept_paused_ = true;  // no memory for it in the kernel: later
  accept_again_ns_ = ipc::MonotonicNs() + kAcceptPauseNs;
}

void SupervisorCore::RequestStop() { ipc::SignalEventFd(stop_event_.get()); }

absl::Status SupervisorCore::Run() {
  for (const ReloadAction& action : machine_.Start(ipc::MonotonicNs())) Perform(action);
  Pump();
  while (!stopped_) {
    const int64_t begun = ipc::MonotonicNs();
    const int64_t deadline = NextDeadline();
    if (absl::Status status = loop_->RunOnce(deadline); !status.ok()) return status;
    // Before anything sets a deadline anew: from then on it is its own time.
    NoteStandstill(std::max(begun, deadline));
    Pump();
    const int64_t ticked = ipc::MonotonicNs();
    Tick(ticked);
    NoteStandstill(ticked);
    Pump();
  }
  return result_;
}

void SupervisorCore::Push(ReloadEvent::Kind kind, uint64_t generation, std::string detail) {
  events_.push_back({kind, generation, std::move(detail)});
}

void SupervisorCore::Pump() {
  while (!events_.empty() && !stopped_) {
    const ReloadEvent event = std::move(events_.front());
    events_.pop_front();
    if (stop_waits_ && (event.kind == ReloadEvent::Kind::kReloadRequested ||
                        event.kind == ReloadEvent::Kind::kStop)) {
      continue;  // nothing is begun any more
    }
    if (event.kind == ReloadEvent::Kind::kStop && machine_.state() != State::kStopping) {
      if (listener_.fd() >= 0) {
        log_->info("stopping");
        loop_->Forget(listener_.fd());
        listener_ = ipc::ControlListener();  // whoever connects now is refused at once
      }
      if (StopAwaitsSurvey()) {
        log_->info("stopping: it waits for NVML to say who uses the GPU");
        stop_waits_ = true;
        continue;
      }
    }
    const int64_t handled_ns = ipc::MonotonicNs();
    for (const ReloadAction& action : machine_.Handle(event, handled_ns)) Perform(action);
    // Deadlines count from before what was done, which may have stood still.
    NoteStandstill(handled_ns);
    // With `overlap` the one that serves may die while the one before it still leaves.
    if (event.kind == ReloadEvent::Kind::kWorkerExited && !machine_.serves() &&
        event.generation == machine_.serving_generation()) {
      StartHold();
    }
  }
}

// ---- time ----

// A process that was stopped, or a machine that was: those who had to answer had no time to, or
// their answers were not read. Nobody is judged by such a time.
void SupervisorCore::NoteStandstill(int64_t expected_ns) {
  const int64_t now = ipc::MonotonicNs();
  const int64_t late = now - expected_ns;
  if (late < kStandstillNs) return;
  log_->warn("this process stood still for {}: deadlines are put off by that",
             absl::FormatDuration(absl::Nanoseconds(late)));
  machine_.PutOff(late);
  awake_since_ns_ = now;
}

// Generations are changing places: how much they hold together is to be measured (A21).
bool SupervisorCore::Measuring() const {
  switch (machine_.step()) {
    case State::kClosing:
    case State::kExiting:
    case State::kConfirming:
    case State::kAdmitting:
    case State::kRemapping:
      return true;
    default:
      return false;
  }
}

int64_t SupervisorCore::NextDeadline() const {
  if (!events_.empty()) return 1;  // long ago
  const int64_t now = ipc::MonotonicNs();
  int64_t deadline = machine_.deadline_ns();
  if (watcher_) deadline = Sooner(deadline, watcher_->deadline_ns());
  // Its reads do not belong into a gap.
  if (model_watcher_ && !Measuring()) deadline = Sooner(deadline, model_watcher_->deadline_ns());
  deadline = Sooner(deadline, helper_.deadline_ns());
  // While it has a question, its answer or its deadline comes first.
  if (helper_.state() != ConfirmHelper::State::kAsked) {
    if (confirming_ != 0) deadline = Sooner(deadline, next_ask_ns_);
    if (!overridden_.empty()) deadline = Sooner(deadline, next_overridden_ask_ns_);
  }
  if (MaySurvey()) deadline = Sooner(deadline, now);
  if (survey_.waiting() != 0) deadline = Sooner(deadline, survey_.deadline_ns());
  if (accept_paused_) deadline = Sooner(deadline, accept_again_ns_);
  if (Measuring()) deadline = Sooner(deadline, now + kSampleNs);
  // Also so that a standstill is seen long before the deadline that it is about.
  if (machine_.serves() || machine_.awaits()) deadline = Sooner(deadline, now + kWedgeCheckNs);
  for (const auto& [generation, worker] : workers_) {
    if (worker->hung_up_ns != 0) {
      deadline = Sooner(deadline, std::max(now, worker->hung_up_ns) + kHungUpGraceNs);
    } else if (worker->stalled_since_ns() != 0) {
      deadline =
          Sooner(deadline, std::max(worker->stalled_since_ns(), awake_since_ns_) + kStalledNs);
    }
  }
  return deadline;
}

void SupervisorCore::Tick(int64_t now_ns) {
  if (stopped_) return;
  if (Measuring()) ledger_.Sample();
  if (machine_.deadline_ns() != 0 && now_ns >= machine_.deadline_ns()) {
    Push(ReloadEvent::Kind::kTimeout);
  }
  if (watcher_ && now_ns >= watcher_->deadline_ns()) CheckSecrets(now_ns);
  if (model_watcher_ && !Measuring() && model_watcher_->Check(now_ns)) {
    Push(ReloadEvent::Kind::kReloadRequested, 0, "model");
  }
  if (accept_paused_ && now_ns >= accept_again_ns_) AcceptAgain();
  helper_.Tick(now_ns);
  const bool serving = machine_.state() == State::kServing && confirming_ == 0;
  if (now_ns - orphans_looked_ns_ >= (serving ? kOrphansServingNs : kOrphansNs)) {
    orphans_looked_ns_ = now_ns;
    orphans_.Look();
  }
  if (confirming_ != 0 && now_ns >= next_ask_ns_) AskForConfirmation(now_ns);
  if (!overridden_.empty() && now_ns >= next_overridden_ask_ns_) AskForOverridden(now_ns);
  AskForSurvey(now_ns);
  EndSurveyWait();
  CheckWorkers(now_ns);
}

void SupervisorCore::LogSecretsProblems(const SecretsSnapshot& secrets) {
  if (secrets.problems == logged_problems_) return;
  for (const std::string& problem : secrets.problems) log_->warn("secrets: {}", problem);
  logged_problems_ = secrets.problems;
}

void SupervisorCore::CheckSecrets(int64_t now_ns) {
  const bool changed = watcher_->Check(now_ns);
  LogSecretsProblems(watcher_->current());
  if (!changed) return;
  if (const WorkerHandle* serving = Worker(machine_.serving_generation());
      serving != nullptr && serving->secrets()->SameValues(watcher_->current())) {
    Push(ReloadEvent::Kind::kNotNeeded);  // a reload that awaits its retry
  }
  // Whoever comes up now may have read them already. With `overlap` the old one may be leaving,
  // and what it has says nothing.
  const uint64_t latest =
      machine_.next_generation() != 0 ? machine_.next_generation() : machine_.serving_generation();
  const WorkerHandle* worker = Worker(latest);
  if (worker != nullptr && worker->secrets()->SameValues(watcher_->current())) return;
  Push(ReloadEvent::Kind::kReloadRequested, 0, "secrets");
}

void SupervisorCore::CheckWorkers(int64_t now_ns) {
  const auto since = [this](int64_t ns) { return std::max(ns, awake_since_ns_); };
  for (auto& [generation, worker] : workers_) {
    // A worker that cleans up may close its socket first; cleanup_timeout bounds that.
    if (worker->hung_up_ns != 0 && now_ns >= since(worker->hung_up_ns) + kHungUpGraceNs &&
        machine_.step() != State::kExiting) {
      worker->hung_up_ns = now_ns;
      Push(ReloadEvent::Kind::kWorkerFailed, generation, "it closed its control socket");
    }
    if (worker->hung_up_ns == 0 && worker->stalled_since_ns() != 0 &&
        now_ns >= since(worker->stalled_since_ns()) + kStalledNs) {
      worker->GiveUpSending();
      Push(ReloadEvent::Kind::kWorkerFailed, generation, "it does not read its messages");
    }
  }
  if (machine_.serves() && Worker(serve_told_) != nullptr) CheckWedged(now_ns);
}

void SupervisorCore::CheckWedged(int64_t now_ns) {
  const ipc::WorkerPage& page = pages_.worker();
  // Relaxed: hints about time, each read on its own.
  const int64_t beat = std::max(page.heartbeat_ns.load(std::memory_order_relaxed), serve_told_ns_);
  // A worker that died in a request leaves the page as it was; the next one signs it first.
  const bool signed_by_it = page.generation.load(std::memory_order_relaxed) == serve_told_;
  const int64_t busy_since = signed_by_it ? page.busy_since_ns.load(std::memory_order_relaxed) : 0;
  const int64_t due = page.busy_deadline_ns.load(std::memory_order_relaxed);
  const auto exceeds = [this, now_ns](int64_t since_ns, absl::Duration limit) {
    return limit > absl::ZeroDuration() &&
           absl::Nanoseconds(now_ns - std::max(since_ns, awake_since_ns_)) > limit;
  };
  const auto ago = [now_ns](int64_t since_ns) {
    return absl::FormatDuration(absl::Nanoseconds(now_ns - since_ns));
  };
  std::string what;
  if (busy_since == 0) {
    if (exceeds(beat, options_.heartbeat_timeout))
      what = absl::StrCat("no heartbeat for ", ago(beat));
  } else if (exceeds(busy_since, options_.wedge_timeout)) {
    what = absl::StrCat("one request has run for ", ago(busy_since));
  } else if (due > 0 && exceeds(std::max(due, busy_since), options_.wedge_grace)) {
    what = absl::StrCat("one request runs on, ", ago(due), " after its deadline");
  }
  if (what.empty() || wedged_told_ == serve_told_) return;
  wedged_told_ = serve_told_;
  log_->error("generation {}: it is wedged: {}", serve_told_, what);
  Push(ReloadEvent::Kind::kWorkerFailed, serve_told_, absl::StrCat("it is wedged: ", what));
}

}  // namespace baton::runtime

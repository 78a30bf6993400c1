#include "tests/crash/fault_cell.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace baton::testing {

using State = ipc::ServerState;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kSlowness = 3;
#else
constexpr int kSlowness = 1;
#endif

constexpr int kInFlight = 4;
// Of the observer, while it is pinned: a few hundred milliseconds.
constexpr uint64_t kPinnedLooks = 200;
// Those of a front whose requests are to end while the supervisor hangs.
constexpr absl::Duration kShortDeadline = absl::Milliseconds(200 * kSlowness);
// Passes only where the cell is about it: one who is to be found hanging costs it.
// `drain`, `cleanup`, `confirm` hurt nobody who is merely slow. The others would: they are longer
// than a healthy process stands still on a busy machine.
constexpr int kHarmlessMs = 300;
constexpr int kHarmfulMs = 5000 * kSlowness;

absl::Status Wrong(const std::string& what) { return absl::InternalError(what); }

absl::Status Signal(pid_t pid, int signal) {
  if (pid > 0 && ::kill(pid, signal) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("signal ", signal, " to process ", pid));
}

absl::Status AwaitStopped(pid_t pid, const std::string& who) {
  if (pid > 0 && WaitFor([&] { return IsStopped(pid); })) return absl::OkStatus();
  return Wrong(absl::StrCat(who, " (pid ", pid, ") does not stop itself"));
}

// What a client who has just come is answered.
absl::Status AskOnce(const TestServer& server) {
  absl::StatusOr<std::unique_ptr<Front>> front = server.Attach();
  if (!front.ok()) return front.status();
  absl::StatusOr<Channel> channel = (*front)->OpenChannel(
      {.ring_entries = 4, .request_arena_bytes = 1 << 16, .response_arena_bytes = 1 << 17});
  if (!channel.ok()) return channel.status();
  absl::StatusOr<Request> request = channel->NewRequest({{"data", DType::kUInt8, {8}}});
  if (!request.ok()) return request.status();
  return channel->Call(*std::move(request), {.timeout = absl::Minutes(1)}).status();
}

}  // namespace

FaultCell::FaultCell(const Cell& cell, const CellPlan& plan, FaultPoints points)
    : cell_(cell),
      plan_(plan),
      points_(std::move(points)),
      stops_at_state_(plan.stops_at_state && points_.crash_at.empty() && points_.stop_at.empty()),
      run_directory_(temp_.path() + "/run"),
      mark_(temp_.path()) {
  ::mkdir(run_directory_.c_str(), 0700);
}

FaultCell::~FaultCell() {
  // After a failure some of them may be stopped: they would not end otherwise.
  for (const pid_t pid : MarkedProcesses(mark_)) ::kill(pid, SIGKILL);
}

absl::StatusOr<std::string> FaultCell::Run() {
  using Step = absl::Status (FaultCell::*)();
  const std::pair<const char*, Step> steps[] = {
      {"start", &FaultCell::Prepare},
      {"reach the state", &FaultCell::ReachState},
      {"do the deed", &FaultCell::DoDeed},
      {"see it pinned", &FaultCell::AwaitPinned},
      {"see what comes of it", &FaultCell::AwaitOutcome},
      {"be served", &FaultCell::CheckServes},
      {"lift the hindrance", &FaultCell::Lift},
      {"reload once more", &FaultCell::ReloadOnceMore},
      {"look at the device", &FaultCell::CheckOneGeneration},
      {"look for what grew", &FaultCell::CheckNothingGrew},
      {"count requests", &FaultCell::EndFronts},
      {"look for what is left", &FaultCell::CheckNothingLeft},
  };
  for (const auto& [what, step] : steps) {
    const absl::Status status = (this->*step)();
    if (status.ok()) continue;
    return Wrong(absl::StrCat("cannot ", what, ": ", status.message(), "\nreceipts: ", Outcome(),
                              "\n", server_ == nullptr ? "" : server_->Log()));
  }
  std::string word = outcome_;
  if (plan_.pins) absl::StrAppend(&word, " unpinned");
  if (aborted_ > 0) absl::StrAppend(&word, " aborted ", aborted_);
  if (expired_ > 0) absl::StrAppend(&word, " expired");
  return word;
}

// ---- before ----

std::string FaultCell::ConfigLines() const {
  constexpr int kNeverMs = 120'000;
  const std::pair<const char*, int> timeouts[] = {
      {"load_timeout", kHarmfulMs},     {"drain_timeout", kHarmlessMs},
      {"close_timeout", kHarmfulMs},    {"cleanup_timeout", kHarmlessMs},
      {"confirm_timeout", kHarmlessMs}, {"helper_timeout", kHarmfulMs / 2}};
  std::vector<std::string> options;
  for (const auto& [name, short_ms] : timeouts) {
    const bool is_short =
        std::find(plan_.timeouts.begin(), plan_.timeouts.end(), name) != plan_.timeouts.end();
    options.push_back(absl::StrCat(name, ": ", is_short ? short_ms : kNeverMs, "ms"));
  }
  return absl::StrCat("reload: {", absl::StrJoin(options, ", "), "}\n");
}

absl::Status FaultCell::StartServer(bool faulty) {
  TestServerOptions options;
  options.run_directory = run_directory_;
  // Slow enough that a request is always running, and that it costs no core to keep it so.
  options.directory = ProbeModel(
      temp_, {"behaviour: slow", "ms: 1", absl::StrCat("weights_bytes: ", kWeightsBytes)},
      ConfigLines());
  const std::string limit = absl::StrCat(plan_.short_heartbeat ? kHarmfulMs / 1000 : 120);
  options.extra_args = {"--heartbeat-timeout", limit, "--wedge-timeout", limit};
  options.env["BATON_TEST_MARK"] = mark_;
  if (faulty) {
    std::vector<std::string> stops;
    if (!plan_.stop_at.empty()) stops.push_back(plan_.stop_at);
    if (!points_.stop_at.empty()) stops.push_back(points_.stop_at);
    if (stops_at_state_) {
      stops.push_back(absl::StrCat("supervisor.", std::string(ipc::ServerStateName(cell_.state))));
    }
    if (!stops.empty()) options.env["BATON_STOP_AT"] = absl::StrJoin(stops, ",");
    if (!points_.fail_at.empty()) options.env["BATON_FAIL_AT"] = points_.fail_at;
    if (!points_.crash_at.empty()) options.env["BATON_CRASH_AT"] = points_.crash_at;
  }
  absl::StatusOr<std::unique_ptr<TestServer>> server = TestServer::Start(options);
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  pids_.push_back(server_->pid());
  return absl::OkStatus();
}

absl::Status FaultCell::StartFront() {
  const int number = static_cast<int>(fronts_.size());
  std::map<std::string, std::string> env;
  const bool is_target = number < 2 && number == static_cast<int>(cell_.target);
  if (is_target && !plan_.front_fail_at.empty()) env["BATON_FAIL_AT"] = plan_.front_fail_at;
  if (is_target && !plan_.front_stop_at.empty()) env["BATON_STOP_AT"] = plan_.front_stop_at;
  FrontLoad load{.in_flight = kInFlight};
  if (cell_.target == Target::kSupervisor && cell_.fault == Fault::kHang) {
    load.timeout = kShortDeadline;
  }
  fronts_.push_back(
      {std::make_unique<FrontProcess>(temp_, run_directory_, mark_, number, env, load)});
  pids_.push_back(fronts_.back().process->pid());
  if (fronts_.back().process->Progress(5)) return absl::OkStatus();
  return Wrong(absl::StrCat("front ", number, " is not served"));
}

absl::Status FaultCell::Prepare() {
  if (absl::Status status = StartServer(/*faulty=*/true); !status.ok()) return status;
  for (int i = 0; i < 2; ++i) {
    if (absl::Status status = StartFront(); !status.ok()) return status;
  }
  server_descriptors_ = OpenDescriptors(server_->pid());
  for (Load& front : fronts_) front.descriptors = OpenDescriptors(front.process->pid());
  processes_ = MarkedProcesses(mark_).size();
  old_worker_ = server_->WorkerOf(1);
  helper_ = Status().helper_pid;
  observer_ = std::make_unique<DeviceObserver>(
      server_->pid(), std::vector{fronts_[0].process->pid(), fronts_[1].process->pid()},
      absl::Milliseconds(1));
  return AwaitObserver();
}

absl::Status FaultCell::AwaitObserver() const {
  if (WaitFor([&] { return observer_->samples() >= 2; })) return absl::OkStatus();
  return Wrong("the observer sees nothing");
}

// ---- the state ----

absl::StatusOr<ControlClient> FaultCell::Control() const {
  return ControlClient::Open(run_directory_, "test");
}

ControlClient::ServerStatus FaultCell::Status() const {
  absl::StatusOr<ControlClient> control = Control();
  if (!control.ok()) return {.state = std::string(control.status().message())};
  return control->Status();
}

absl::Status FaultCell::AskForReload() const {
  absl::StatusOr<ControlClient> control = Control();
  if (!control.ok()) return control.status();
  return control->Send([](auto to) { to.initReload().setTrigger("command"); });
}

absl::Status FaultCell::ReachState() {
  absl::Status status;
  switch (plan_.course) {
    case Course::kServing:
      break;
    case Course::kReload:
      status = AskForReload();
      break;
    case Course::kWorkerDeath:
      status = Signal(old_worker_, SIGKILL);
      break;
    case Course::kUnavailable:
      status = MakeUnavailable();
      break;
  }
  if (!status.ok() || !stops_at_state_) return status;
  return AwaitStopped(server_->pid(), "the supervisor");
}

// The worker that serves dies, and its successor when it is what everybody waits for.
absl::Status FaultCell::MakeUnavailable() {
  if (absl::Status status = Signal(old_worker_, SIGKILL); !status.ok()) return status;
  if (!WaitFor([&] { return IsStopped(server_->WorkerOf(2)); })) return Wrong("no successor comes");
  if (!WaitFor([&] { return Status().state == "ADMITTING"; })) {
    return Wrong("the memory of the dead worker is not confirmed freed");
  }
  return Signal(server_->WorkerOf(2), SIGKILL);
}

// ---- the deed ----

FaultCell::Load* FaultCell::TargetFront() {
  const auto index = static_cast<size_t>(cell_.target);
  return index < 2 ? &fronts_[index] : nullptr;
}

absl::StatusOr<pid_t> FaultCell::FindTarget() const {
  switch (cell_.target) {
    case Target::kFront:
    case Target::kSecondFront:
      return fronts_[static_cast<size_t>(cell_.target)].process->pid();
    case Target::kSupervisor:
      return server_->pid();
    case Target::kOldWorker:
      return old_worker_;
    case Target::kNewWorker: {
      const uint64_t generation = cell_.state == State::kUnavailable ? 3 : 2;
      if (WaitFor([&] { return server_->WorkerOf(generation) != 0; })) {
        return server_->WorkerOf(generation);
      }
      break;
    }
    case Target::kHelper:
      if (helper_ != 0) return helper_;
      break;
  }
  return Wrong(absl::StrCat("there is no ", TargetName(cell_.target)));
}

absl::Status FaultCell::DoDeed() {
  looks_at_deed_ = observer_->samples();
  if (!points_.crash_at.empty() || !points_.stop_at.empty()) return absl::OkStatus();
  const bool fails = cell_.fault == Fault::kFail;
  const bool new_in_unavailable =
      cell_.target == Target::kNewWorker && cell_.state == State::kUnavailable;
  if (!fails || new_in_unavailable || TargetFront() != nullptr) {
    absl::StatusOr<pid_t> target = FindTarget();
    if (!target.ok()) return target.status();
    target_ = *target;
  }
  if (new_in_unavailable) {
    if (absl::Status status = AwaitStopped(target_, "the new worker"); !status.ok()) return status;
    const ControlClient::ServerStatus status = Status();
    if (status.state != "UNAVAILABLE") return Wrong(status.state);
    if (status.reason.empty()) return Wrong("UNAVAILABLE without a reason");
    if (fails) return Signal(target_, SIGCONT);  // to where it fails
  }
  if (fails) return absl::OkStatus();
  if (cell_.target == Target::kSupervisor && cell_.fault == Fault::kHang) {
    return LetSupervisorHang();
  }
  absl::Status status;
  if (cell_.fault == Fault::kKill) {
    const auto identity = ipc::ProcessIdentity::Of(target_);
    if (!identity.ok()) return identity.status();
    const auto watch = ipc::ProcessWatch::Open(*identity);
    if (!watch.ok()) return watch.status();
    status = watch->Kill(SIGKILL);
    if (cell_.target == Target::kSupervisor) return RestartServer();
    if (Load* front = TargetFront()) {
      front->dead = true;
      status.Update(front->process->process().Reap(absl::Minutes(1)).status());
    } else if (!WaitFor([&] { return !watch->alive(); })) {
      return Wrong("it survives SIGKILL");
    }
  } else if (!plan_.stops_by_itself) {
    status = Signal(target_, SIGSTOP);
  }
  if (status.ok() && cell_.fault == Fault::kHang) {
    status = AwaitStopped(target_, TargetName(cell_.target));
  }
  if (status.ok() && stops_at_state_) status = Signal(server_->pid(), SIGCONT);
  return status;
}

// A32: the fronts keep time by themselves.
absl::Status FaultCell::LetSupervisorHang() {
  if (!stops_at_state_) {
    absl::Status status = Signal(target_, SIGSTOP);
    if (status.ok()) status = AwaitStopped(target_, "the supervisor");
    if (!status.ok()) return status;
  }
  std::vector<std::pair<uint64_t, uint64_t>> before;  // ended and expired, by front
  for (Load& front : fronts_) {
    before.emplace_back(front.process->tally().ended(), front.process->tally().expired.load());
  }
  for (size_t i = 0; i < fronts_.size(); ++i) {
    const FrontTally& tally = fronts_[i].process->tally();
    if (!WaitFor([&] {
          return tally.ended() >= before[i].first + 2 * kInFlight &&
                 (!plan_.must_expire || tally.expired.load() > before[i].second);
        })) {
      return Wrong(absl::StrCat("the requests of front ", i, " do not end"));
    }
  }
  return Signal(target_, SIGCONT);
}

absl::Status FaultCell::RestartServer() {
  if (absl::Status reaped = server_->process().Reap(absl::Minutes(1)).status(); !reaped.ok()) {
    return reaped;
  }
  for (Load& front : fronts_) {
    front.cut_off = true;
    if (absl::Status status = CheckTally(front); !status.ok()) return status;
    front.dead = true;
  }
  // All of it may have been over before the next look.
  if (!WaitFor([&] { return observer_->samples() > looks_at_deed_; }))
    return Wrong("it sees nothing");
  if (absl::Status status = CheckOneGeneration(); !status.ok()) return status;
  server_.reset();
  if (absl::Status status = CheckNothingLeft(); !status.ok()) return status;
  const auto number = fronts_.size();
  if (absl::Status status = StartServer(/*faulty=*/false); !status.ok()) return status;
  for (size_t i = 0; i < number; ++i) {
    if (absl::Status status = StartFront(); !status.ok()) return status;
  }
  observer_ =
      std::make_unique<DeviceObserver>(server_->pid(), std::vector<pid_t>(), absl::Milliseconds(1));
  server_descriptors_ = OpenDescriptors(server_->pid());
  for (size_t i = number; i < fronts_.size(); ++i) {
    fronts_[i].descriptors = OpenDescriptors(fronts_[i].process->pid());
  }
  absl::Status status = AwaitObserver();
  looks_at_deed_ = observer_->samples();
  return status;
}

// ---- after ----

std::string FaultCell::Outcome() const {
  if (server_ == nullptr) return "no server";
  std::vector<std::string> words;
  for (const ReceiptLine& receipt : ParseReceipts(server_->Receipts())) {
    words.push_back(receipt.outcome == "swapped" && receipt.trigger == "worker-death"
                        ? "replaced"
                        : receipt.outcome);
  }
  return words.empty() ? "served" : absl::StrJoin(words, "+");
}

// A27: nobody allocates, and `status` says whose fault it is.
absl::Status FaultCell::AwaitPinned() {
  if (!plan_.pins) return absl::OkStatus();
  const std::string verdict = absl::StrCat("pinned-by ", target_);
  ControlClient::ServerStatus status;
  if (!WaitFor([&] {
        status = Status();
        return absl::StrContains(status.reason, verdict);
      })) {
    return Wrong(absl::StrCat(status.state, " (", status.reason, "): not ", verdict));
  }
  if (status.last_verdict != verdict) return Wrong(status.last_verdict);
  // And so it stays, however often it is looked at meanwhile.
  const uint64_t looks = observer_->samples() + kPinnedLooks;
  if (!WaitFor([&] {
        status = Status();
        return status.state != "CONFIRMING" || status.ready || observer_->samples() >= looks;
      })) {
    return Wrong("the observer sees nothing");
  }
  if (status.state != "CONFIRMING" || status.ready) return Wrong(status.state);
  return Lift();
}

absl::Status FaultCell::AwaitOutcome() {
  const bool restarted = plan_.outcomes.contains("restarted");
  const bool unwritten = plan_.outcomes.contains("swapped unwritten");
  recorded_ = !restarted && !unwritten;
  const auto is_there = [&] {
    if (!recorded_) {
      outcome_ = *plan_.outcomes.begin();
      const ControlClient::ServerStatus status = Status();
      return status.state == "SERVING" && status.generation == (restarted ? 1 : 2);
    }
    outcome_ = Outcome();
    return plan_.outcomes.contains(outcome_) && Status().state == "SERVING";
  };
  if (!WaitFor(is_there)) {
    const ControlClient::ServerStatus status = Status();
    return Wrong(absl::StrCat(outcome_, ", not ", absl::StrJoin(plan_.outcomes, " or "), "; ",
                              status.state, ": ", status.reason));
  }
  return CheckStruck();
}

// That it was no undisturbed reload.
absl::Status FaultCell::CheckStruck() const {
  if (!plan_.log_says.empty() && !absl::StrContains(server_->Log(), plan_.log_says)) {
    return Wrong(absl::StrCat("the log does not say '", plan_.log_says, "'"));
  }
  const std::vector<ReceiptLine> receipts = ParseReceipts(server_->Receipts());
  if (plan_.successor != 0 && receipts.back().successor != plan_.successor) {
    return Wrong(absl::StrCat("generation ", receipts.back().successor, " serves"));
  }
  if (plan_.receipt_says.empty()) return absl::OkStatus();
  const std::string wanted =
      absl::StrReplaceAll(plan_.receipt_says, {{"PID", absl::StrCat(target_)}});
  for (const ReceiptLine& receipt : receipts) {
    if (absl::StrContains(receipt.reason, wanted)) return absl::OkStatus();
  }
  return Wrong(absl::StrCat("no receipt says '", wanted, "'"));
}

// Whoever hangs still does, unless it is what nobody can go on without.
absl::Status FaultCell::CheckServes() {
  if (absl::Status status = AskOnce(*server_); !status.ok()) return status;
  for (Load& front : fronts_) {
    if (front.dead || &front == TargetFront()) continue;
    if (!front.process->Progress(3)) return Wrong("a front is not served");
  }
  const std::string now = Outcome();
  if (now == outcome_ || !recorded_) return absl::OkStatus();
  return Wrong(absl::StrCat("it was ", outcome_, ", and then ", now));
}

absl::Status FaultCell::Lift() {
  Load* front = TargetFront();
  if (front == nullptr || front->dead) return absl::OkStatus();
  if (cell_.fault == Fault::kHang && IsStopped(target_)) {
    // What a pinned arena needs is one of the two; both are tried.
    if (plan_.pins && cell_.target == Target::kSecondFront) {
      front->dead = true;
      absl::Status status = Signal(target_, SIGKILL);
      status.Update(front->process->process().Reap(absl::Minutes(1)).status());
      return status;
    }
    if (absl::Status status = Signal(target_, SIGCONT); !status.ok()) return status;
  }
  if (!plan_.cut_off) {
    return front->process->Progress(3) ? absl::OkStatus() : Wrong("it does not go on");
  }
  // It finds its server gone, and ends.
  front->cut_off = true;
  absl::Status status = CheckTally(*front);
  front->dead = true;
  return status;
}

// That a reload came to nothing, or a worker died, has left nothing behind that is in the way.
absl::Status FaultCell::ReloadOnceMore() {
  ControlClient::Reloaded reloaded;
  for (int i = 0; i < 20; ++i) {
    absl::StatusOr<ControlClient> control = Control();
    if (!control.ok()) return control.status();
    reloaded = control->Reload();
    if (reloaded.outcome == "swapped" || !IsExcused(reloaded)) break;
    if (!WaitFor([&] { return Status().state == "SERVING"; })) break;
  }
  if (reloaded.outcome != "swapped") {
    return Wrong(
        absl::StrCat(reloaded.outcome, " (", reloaded.reason, "): ", reloaded.status.ToString()));
  }
  if (cell_.target == Target::kHelper && cell_.fault != Fault::kFail &&
      !WaitFor([&] { return Status().helper_pid != helper_ && Status().helper_pid != 0; })) {
    return Wrong("the helper was not replaced");
  }
  return AskOnce(*server_);
}

}  // namespace baton::testing

#include "runtime/supervisor/confirm_helper.h"

#include <algorithm>
#include <csignal>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "ipc/crash_point.h"
#include "ipc/cuda/gpu_messages.h"
#include "ipc/futex.h"
#include "ipc/schema_convert.h"
#include "runtime/supervisor/confirmation.h"

namespace baton::runtime {

namespace schema = ipc::schema;

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kFirstBackoffNs = 100 * kNsPerMs;
constexpr int64_t kLongestBackoffNs = 10'000 * kNsPerMs;
// One that has lived for so long was no failure, asked or not.
constexpr int64_t kHealthyNs = 10'000 * kNsPerMs;
// SIGKILL ends a process within this, or it hangs in the kernel.
constexpr int64_t kDyingNs = 1000 * kNsPerMs;

int64_t Sooner(int64_t a, int64_t b) {
  if (a == 0 || b == 0) return a + b;
  return std::min(a, b);
}

DeviceVerdict ReadVerdict(schema::Verdict::Reader from, bool named) {
  DeviceVerdict verdict;
  verdict.answered = true;
  verdict.source = ipc::ReadText(from.getSource());
  verdict.detail = ipc::ReadText(from.getDetail());
  for (const int32_t pid : from.getHolders()) verdict.holders.push_back(pid);
  switch (from.getVerdict()) {
    case schema::Verdict::Kind::FREED:
      verdict.freed = true;
      verdict.text = "freed";
      break;
    case schema::Verdict::Kind::STILL_MAPPED:
      verdict.mapped = true;
      if (!verdict.holders.empty()) {
        verdict.text = absl::StrCat("pinned-by ", verdict.holders.front());
      } else if (verdict.detail.empty()) {
        verdict.detail =
            named ? "a process maps it that cannot be seen from here" : "a process still maps it";
      }
      break;
    case schema::Verdict::Kind::DRIVER_HELD:
      verdict.text = "driver-held";
      break;
    case schema::Verdict::Kind::UNKNOWN:  // and what a later version says
    default:
      if (verdict.detail.empty()) verdict.detail = "the confirmation helper could not tell";
  }
  return verdict;
}

}  // namespace

ConfirmHelper::ConfirmHelper(EventLoop& loop, ServerLog log, Options options, Answered answered,
                             Surveyed surveyed)
    : loop_(loop),
      log_(std::move(log)),
      options_(std::move(options)),
      answered_(std::move(answered)),
      surveyed_(std::move(surveyed)) {}

ConfirmHelper::~ConfirmHelper() {
  if (state_ != State::kAbsent) {
    loop_.Forget(socket_.fd());
    loop_.Forget(process_.pidfd());
    process_.Kill(SIGKILL).IgnoreError();
    leaving_.push_back({std::move(process_), ipc::MonotonicNs()});
  }
  for (Leaving& leaving : leaving_) {
    loop_.Forget(leaving.process.pidfd());
    const absl::Duration patience =
        leaving.told ? absl::ZeroDuration() : absl::Nanoseconds(kDyingNs);
    if (!leaving.process.Reap(patience).ok()) leaving.process.Release();
  }
}

bool ConfirmHelper::Owns(pid_t pid) const {
  return (state_ != State::kAbsent && process_.pid() == pid) ||
         std::any_of(leaving_.begin(), leaving_.end(),
                     [pid](const Leaving& leaving) { return leaving.process.pid() == pid; });
}

void ConfirmHelper::Start(int64_t now_ns) { Spawn(now_ns); }

void ConfirmHelper::Spawn(int64_t now_ns) {
  spawn_at_ns_ = 0;
  if (leaving_.size() >= kMaxLeaving) {
    why_absent_ = absl::StrCat(leaving_.size(),
                               " confirmation helpers were killed and do not end: they hang in the "
                               "kernel. No other is started");
    return;  // ReapLeaving goes on
  }
  const absl::Status spawned = TrySpawn(now_ns);
  if (spawned.ok()) {
    why_absent_.clear();
    return;
  }
  Lost(absl::StrCat("the confirmation helper cannot be started: ", std::string(spawned.message())),
       now_ns);
}

absl::Status ConfirmHelper::TrySpawn(int64_t now_ns) {
  if (BATON_FAIL_POINT("supervisor.spawn_helper")) {
    return absl::ResourceExhaustedError("it is not, at the point supervisor.spawn_helper");
  }
  auto pair = ipc::ControlSocket::MakePair();
  if (!pair.ok()) return pair.status();
  ipc::SpawnOptions spawn;
  spawn.executable = options_.executable;
  spawn.args = {"--name", options_.server, "--helper", absl::StrCat(++started_)};
  spawn.fds = {{pair->second.get(), kConfirmSocketFd}};
  auto process = ipc::SpawnProcess(spawn);
  if (!process.ok()) return process.status();
  absl::Status watched = loop_.Watch(pair->first.fd(), [this] { Read(); });
  watched.Update(loop_.Watch(process->pidfd(), [this] {
    const auto status = process_.TryReap();
    if (status.ok() && !*status) return;
    Lost(absl::StrCat("the confirmation helper (pid ", process_.pid(), ") ",
                      ipc::ToString(status.ok() ? **status : ipc::ExitStatus{})),
         ipc::MonotonicNs());
  }));
  if (!watched.ok()) {
    loop_.Forget(pair->first.fd());
    return watched;
  }
  process_ = *std::move(process);
  socket_ = std::move(pair->first);
  spawned_ns_ = now_ns;
  state_ = State::kIdle;
  return absl::OkStatus();
}

void ConfirmHelper::Ask(const ConfirmQuestion& question, absl::Duration timeout, int64_t now_ns) {
  if (state_ != State::kIdle) return;
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(++last_call_);
  auto confirm = envelope.initConfirm();
  confirm.setGeneration(question.generation);
  confirm.setBytes(question.bytes);
  confirm.setToken(kj::arrayPtr(reinterpret_cast<const kj::byte*>(question.token.data()),
                                question.token.size()));
  confirm.setNameHolders(question.name_holders);
  confirm.setAskedBefore(question.asked_before);
  if (question.gpu) WriteGpuQuestion(*question.gpu, confirm.initGpu());
  asked_ = question;
  asked_survey_ = false;
  Send(message, question.fd, timeout, now_ns);
}

void ConfirmHelper::AskSurvey(uint64_t generation, const ipc::cuda::Uuid& device,
                              absl::Duration timeout, int64_t now_ns) {
  if (state_ != State::kIdle) return;
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(++last_call_);
  auto survey = envelope.initSurvey();
  survey.setGeneration(generation);
  survey.setDevice(ipc::cuda::UuidData(device));
  asked_ = {.generation = generation, .token = ""};
  asked_survey_ = true;
  Send(message, -1, timeout, now_ns);
}

void ConfirmHelper::Send(capnp::MessageBuilder& message, int fd, absl::Duration timeout,
                         int64_t now_ns) {
  wanted_ = true;
  timeout_ = timeout;
  late_at_ns_ = now_ns + absl::ToInt64Nanoseconds(timeout);
  state_ = State::kAsked;
  const std::span<const int> fds(&fd, fd >= 0 ? 1 : 0);
  const absl::Status sent = socket_.Send(message, fds, absl::ZeroDuration());
  if (!sent.ok()) {
    Lost(absl::StrCat("the confirmation helper cannot be asked: ", std::string(sent.message())),
         now_ns);
  }
}

void ConfirmHelper::Read() {
  // Nobody but an idle or asked one is watched.
  auto message = socket_.Receive(absl::ZeroDuration());
  if (absl::IsDeadlineExceeded(message.status())) return;
  const int64_t now = ipc::MonotonicNs();
  const bool answer =
      message.ok() && (message->envelope().isVerdict() || message->envelope().isSurveyed());
  if (!answer) {
    Lost(absl::StrCat("the confirmation helper (pid ", process_.pid(), ") ",
                      message.ok() ? "talks nonsense" : "has hung up"),
         now);
    return;
  }
  // An answer to anything else than what is asked now is believed by nobody.
  if (state_ != State::kAsked || message->call() != last_call_) return;
  if (const absl::Status taken = TakeAnswer(*message); !taken.ok()) {
    Lost(std::string(taken.message()), now);
  }
}

absl::Status ConfirmHelper::TakeAnswer(const ipc::ControlMessage& message) {
  const schema::Envelope::Reader envelope = message.envelope();
  if (envelope.isSurveyed() != asked_survey_) {
    return absl::InvalidArgumentError("the confirmation helper answered another question");
  }
  const uint64_t generation = asked_survey_ ? envelope.getSurveyed().getGeneration()
                                            : envelope.getVerdict().getGeneration();
  if (generation != asked_.generation) {
    return absl::InvalidArgumentError("the confirmation helper answered about another generation");
  }
  state_ = State::kIdle;
  failures_ = 0;
  if (!asked_survey_) {
    Answer(ReadVerdict(envelope.getVerdict(), asked_.name_holders));
  } else if (std::exchange(wanted_, false) && surveyed_) {
    surveyed_(generation, ipc::cuda::ReadSurvey(envelope.getSurveyed().getSurvey()));
  }
  return absl::OkStatus();
}

void ConfirmHelper::Answer(DeviceVerdict verdict) {
  if (std::exchange(wanted_, false)) answered_(asked_, std::move(verdict));
}

// There is none any more, or none could be started.
void ConfirmHelper::Lost(const std::string& why, int64_t now_ns) {
  log_->warn("{}", why);
  if (state_ != State::kAbsent) {
    loop_.Forget(socket_.fd());
    loop_.Forget(process_.pidfd());
    socket_.Close();  // whatever it still says is read by nobody
    if (process_.running()) {
      process_.Kill(SIGKILL).IgnoreError();
      leaving_.push_back({std::move(process_), now_ns});
      // If it cannot be watched, Tick looks.
      loop_.Watch(leaving_.back().process.pidfd(), [this] { ReapLeaving(); }).IgnoreError();
    }
    process_ = {};
    if (now_ns - spawned_ns_ >= kHealthyNs) failures_ = 0;
  }
  state_ = State::kAbsent;
  why_absent_ = why;
  spawn_at_ns_ = now_ns;
  if (++failures_ > 1) {
    const int doublings = std::min(failures_ - 2, 16);
    spawn_at_ns_ += std::min(kFirstBackoffNs << doublings, kLongestBackoffNs);
  }
  if (!asked_survey_) {
    Answer({.source = "", .detail = why, .holders = {}});
  } else if (std::exchange(wanted_, false) && surveyed_) {
    surveyed_(asked_.generation, absl::UnavailableError(why));
  }
}

void ConfirmHelper::ReapLeaving() {
  const bool full = leaving_.size() >= kMaxLeaving;
  for (auto leaving = leaving_.begin(); leaving != leaving_.end();) {
    const auto status = leaving->process.TryReap();
    if (status.ok() && !*status) {
      ++leaving;
      continue;
    }
    loop_.Forget(leaving->process.pidfd());
    leaving = leaving_.erase(leaving);
  }
  if (full && leaving_.size() < kMaxLeaving && state_ == State::kAbsent) {
    spawn_at_ns_ = ipc::MonotonicNs();
  }
}

int64_t ConfirmHelper::deadline_ns() const {
  int64_t deadline = state_ == State::kAsked ? late_at_ns_ : 0;
  if (state_ == State::kAbsent) deadline = spawn_at_ns_;
  for (const Leaving& leaving : leaving_) {
    if (!leaving.told) deadline = Sooner(deadline, leaving.killed_ns + kDyingNs);
  }
  return deadline;
}

void ConfirmHelper::Tick(int64_t now_ns) {
  if (state_ == State::kAsked && now_ns >= late_at_ns_) {
    Read();  // it may have answered while this process was stopped
    if (state_ == State::kAsked && now_ns >= late_at_ns_) {
      Lost(absl::StrCat("the confirmation helper (pid ", process_.pid(), ") did not answer within ",
                        absl::FormatDuration(timeout_)),
           now_ns);
    }
  }
  if (!leaving_.empty()) ReapLeaving();
  for (Leaving& leaving : leaving_) {
    if (leaving.told || now_ns < leaving.killed_ns + kDyingNs) continue;
    leaving.told = true;
    log_->error(
        "the confirmation helper (pid {}) was killed and does not end: it hangs in the kernel, and "
        "is left behind",
        leaving.process.pid());
  }
  if (state_ == State::kAbsent && spawn_at_ns_ != 0 && now_ns >= spawn_at_ns_) Spawn(now_ns);
}

}  // namespace baton::runtime

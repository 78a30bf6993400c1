#include "runtime/supervisor/worker_handle.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/futex.h"
#include "runtime/supervisor/orphans.h"

namespace baton::runtime {

namespace schema = ipc::schema;

namespace {
// Where a worker finds its control socket.
constexpr int kWorkerSocketFd = 3;

// This process's environment, and `variable`, which no other sets.
std::vector<std::string> EnvironmentWith(const std::string& variable) {
  const std::string name = variable.substr(0, variable.find('=') + 1);
  std::vector<std::string> variables = {variable};
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    if (!absl::StartsWith(*entry, name)) variables.emplace_back(*entry);
  }
  return variables;
}

}  // namespace

WorkerHandle::WorkerHandle(const WorkerSpec& spec, std::unique_ptr<WorkerOutput> output,
                           ipc::ChildProcess process, ipc::ControlSocket socket)
    : generation_(spec.generation),
      secrets_(spec.secrets),
      config_(spec.config),
      output_(std::move(output)),
      process_(std::move(process)),
      socket_(std::move(socket)) {}

absl::StatusOr<std::unique_ptr<WorkerHandle>> WorkerHandle::Spawn(const WorkerSpec& spec) {
  if (BATON_FAIL_POINT("supervisor.spawn_worker")) {
    return absl::ResourceExhaustedError(
        "no worker is started at the point supervisor.spawn_worker");
  }
  absl::StatusOr<SealedSecrets> secrets = SealSecrets(*spec.secrets, spec.config);
  if (!secrets.ok()) return secrets.status();
  absl::StatusOr<std::unique_ptr<WorkerOutput>> output =
      WorkerOutput::Create(spec.secrets, spec.log);
  if (!output.ok()) return output.status();
  auto pair = ipc::ControlSocket::MakePair();
  if (!pair.ok()) return pair.status();
  ipc::SpawnOptions options;
  options.executable = spec.executable;
  // For people who look at ps; the worker is told everything by `start`.
  options.args = {"--name", spec.server, "--generation", absl::StrCat(spec.generation)};
  // Its standard output, of which nobody knows whose it is, becomes its standard error.
  options.fds = {{(*output)->write_fd(), STDERR_FILENO}, {pair->second.get(), kWorkerSocketFd}};
  // What a child of the model's code holds of the device would outlive the worker, and pin it.
  options.kill_group_at_end = true;
  options.env = EnvironmentWith(WorkerTag(spec.generation));
  absl::StatusOr<ipc::ChildProcess> process = ipc::SpawnProcess(options);
  if (!process.ok()) return process.status();
  (*output)->CloseWriteEnd();
  std::unique_ptr<WorkerHandle> worker(
      new WorkerHandle(spec, *std::move(output), *std::move(process), std::move(pair->first)));
  const absl::Status sent = worker->Send(
      [&](schema::Envelope::Builder to) {
        auto start = to.initStart();
        start.setServer(spec.server);
        start.setGeneration(spec.generation);
        start.setDirectory(spec.directory);
        start.setDevice(spec.device);
        start.setSecretsBytes(secrets->bytes);
      },
      {spec.worker_page_fd, spec.doorbell_fd, secrets->fd.get(), spec.life_fd});
  if (!sent.ok()) return sent;
  return worker;
}

absl::StatusOr<std::optional<ipc::ControlMessage>> WorkerHandle::Receive() {
  absl::StatusOr<ipc::ControlMessage> message = socket_.Receive(absl::ZeroDuration());
  if (message.ok()) return std::optional(*std::move(message));
  if (absl::IsDeadlineExceeded(message.status())) return std::optional<ipc::ControlMessage>();
  return message.status();
}

template <typename Fill>
absl::Status WorkerHandle::Send(Fill&& fill, std::initializer_list<int> fds) {
  auto message = std::make_unique<capnp::MallocMessageBuilder>();
  fill(message->initRoot<schema::Envelope>());
  if (outgoing_.empty()) {
    const absl::Status sent =
        socket_.Send(*message, std::span(fds.begin(), fds.size()), absl::ZeroDuration());
    if (!absl::IsDeadlineExceeded(sent)) return sent;
    stalled_since_ns_ = ipc::MonotonicNs();
  }
  Outgoing kept{std::move(message), {}};
  for (const int fd : fds) {
    kept.fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!kept.fds.back()) return absl::ErrnoToStatus(errno, "cannot keep a message for a worker");
  }
  outgoing_.push_back(std::move(kept));
  return absl::OkStatus();
}

absl::Status WorkerHandle::Flush() {
  while (!outgoing_.empty()) {
    std::vector<int> fds;
    for (const ipc::UniqueFd& fd : outgoing_.front().fds) fds.push_back(fd.get());
    const absl::Status sent = socket_.Send(*outgoing_.front().message, fds, absl::ZeroDuration());
    if (absl::IsDeadlineExceeded(sent)) return absl::OkStatus();
    if (!sent.ok()) {
      outgoing_.clear();  // nothing that follows would make sense
      return sent;
    }
    outgoing_.pop_front();
    stalled_since_ns_ = ipc::MonotonicNs();
  }
  return absl::OkStatus();
}

absl::Status WorkerHandle::Admit(uint64_t capacity_bytes) {
  return Send([&](auto to) { to.initAdmit().setCapacityBytes(capacity_bytes); });
}

absl::Status WorkerHandle::Serve() {
  return Send([](auto to) { to.setServe(); });
}

absl::Status WorkerHandle::Hold() {
  ++holds_;
  return Send([this](auto to) {
    to.setCall(holds_);
    to.setHold();
  });
}

absl::Status WorkerHandle::Exit() {
  return Send([](auto to) { to.setExit(); });
}

absl::Status WorkerHandle::AddChannel(const ChannelRecord& channel) {
  const auto fill = [&](schema::Envelope::Builder to) {
    auto add = to.initAddChannel();
    add.setChannel(channel.channel);
    add.setSubmissionBytes(channel.submission_bytes);
    add.setCompletionBytes(channel.completion_bytes);
    add.setHasEvent(channel.event.valid());
    add.setDeviceOffset(channel.device_results.offset);
    add.setDeviceBytes(channel.device_results.bytes);
    add.setDeviceInputOffset(channel.device_inputs.offset);
    add.setDeviceInputBytes(channel.device_inputs.bytes);
  };
  const int submission = channel.submission.get();
  const int completion = channel.completion.get();
  if (!channel.event.valid()) return Send(fill, {submission, completion});
  return Send(fill, {submission, completion, channel.event.get()});
}

absl::Status WorkerHandle::RemoveChannel(uint64_t channel) {
  return Send([&](auto to) { to.initRemoveChannel().setChannel(channel); });
}

void WorkerHandle::Kill() {
  if (process_.running()) process_.Kill(SIGKILL).IgnoreError();
}

}  // namespace baton::runtime

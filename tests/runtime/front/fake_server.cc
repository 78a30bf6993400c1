#include "tests/runtime/front/fake_server.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/schema/control.capnp.h"
#include "ipc/schema_convert.h"
#include "runtime/front/channel_core.h"

namespace baton::test {
namespace {

namespace schema = ipc::schema;

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "fake server: %s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

void Must(const absl::Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "fake server: %s\n", status.ToString().c_str());
    std::abort();
  }
}

}  // namespace

Signature VectorSignature() {
  return {.inputs = {{.name = "x", .dtype = DType::kFloat32, .shape = {kDynamicDim}}},
          .outputs = {{.name = "y", .dtype = DType::kFloat32, .shape = {kDynamicDim}}}};
}

absl::Status Double(std::span<const TensorView> inputs, loader::OutputSink& outputs) {
  const std::span<const float> x = inputs[0].As<float>();
  const absl::StatusOr<std::span<std::byte>> y = outputs.Allocate(0, inputs[0].shape);
  if (!y.ok()) return y.status();
  auto* to = reinterpret_cast<float*>(y->data());
  for (size_t i = 0; i < x.size(); ++i) to[i] = 2 * x[i];
  return absl::OkStatus();
}

Request Vector(Channel& channel, size_t elements, float first) {
  const TensorSpec spec{
      .name = "x", .dtype = DType::kFloat32, .shape = {static_cast<int64_t>(elements)}};
  Request request = Must(channel.NewRequest(std::span(&spec, 1)));
  const std::span<float> x = request.input<float>("x");
  std::iota(x.begin(), x.end(), first);
  return request;
}

// ---- FakeServer --------------------------------------------------------------------------------

FakeServer::FakeServer(Signature signature)
    : FakeServer(std::vector<Method>{{.name = "predict", .signature = std::move(signature)}}) {}

FakeServer::FakeServer(std::vector<Method> methods) : methods_(std::move(methods)) {
  char path[] = "/tmp/baton-fake-XXXXXX";
  if (::mkdtemp(path) == nullptr) std::abort();
  directory_ = path;
  status_handles_ = Must(ipc::CreateSegment({.bytes = ipc::kPageBytes}));
  worker_handles_ = Must(ipc::CreateSegment({.bytes = ipc::kPageBytes}));
  status_ = Must(ipc::Segment::Map(status_handles_.read_write.get(), ipc::kPageBytes,
                                   ipc::SegmentAccess::kReadWrite));
  worker_ = Must(ipc::Segment::Map(worker_handles_.read_write.get(), ipc::kPageBytes,
                                   ipc::SegmentAccess::kReadWrite));
  status_page().magic = ipc::kStatusPageMagic;
  status_page().state.store(static_cast<uint32_t>(ipc::ServerState::kServing));
  status_page().version.store(ipc::kPageVersion, std::memory_order_release);
  worker_page().magic = ipc::kWorkerPageMagic;
  worker_page().version.store(ipc::kPageVersion, std::memory_order_release);
  doorbell_ = Must(ipc::CreateEventFd());
  command_ = Must(ipc::CreateEventFd());
  listener_ = Must(ipc::ControlListener::Listen(directory_ + "/control"));
  thread_ = std::thread([this] { Run(); });
}

FakeServer::~FakeServer() {
  Die();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void FakeServer::Die() {
  if (!thread_.joinable()) return;
  stop_ = true;
  Wake();
  thread_.join();
}

void FakeServer::Wake() { ipc::SignalEventFd(command_.get()); }

void FakeServer::Run() {
  while (!stop_) {
    std::vector<pollfd> fds = {{listener_.fd(), POLLIN, 0}, {command_.get(), POLLIN, 0}};
    for (const ipc::ControlSocket& socket : sockets_) fds.push_back({socket.fd(), POLLIN, 0});
    ::poll(fds.data(), fds.size(), -1);
    if ((fds[1].revents & POLLIN) != 0) ipc::DrainEventFd(command_.get());
    for (size_t i = fds.size(); i-- > 2;) {
      if (fds[i].revents == 0) continue;
      absl::StatusOr<ipc::ControlMessage> message = sockets_[i - 2].Receive(absl::ZeroDuration());
      if (message.ok()) {
        Answer(sockets_[i - 2], *std::move(message));
      } else if (!absl::IsDeadlineExceeded(message.status())) {
        sockets_.erase(sockets_.begin() + static_cast<long>(i - 2));
      }
    }
    if ((fds[0].revents & POLLIN) != 0) {
      auto accepted = Must(listener_.Accept());
      if (accepted) sockets_.push_back(*std::move(accepted));
    }
    std::vector<std::function<void()>> commands;
    {
      const std::lock_guard lock(mutex_);
      commands.swap(commands_);
    }
    for (const std::function<void()>& command : commands) command();
    if (hold_answers_) continue;
    std::vector<std::pair<uint64_t, uint64_t>> late;
    {
      const std::lock_guard lock(mutex_);
      late.swap(waiting_);
    }
    for (const auto& [call, channel] : late) {
      capnp::MallocMessageBuilder answer;
      auto envelope = answer.initRoot<schema::Envelope>();
      envelope.setCall(call);
      envelope.initChannelOpened().setChannel(channel);
      for (ipc::ControlSocket& socket : sockets_) static_cast<void>(socket.Send(answer));
    }
  }
  sockets_.clear();
  listener_ = ipc::ControlListener();
}

void FakeServer::ReleaseAnswers() {
  hold_answers_ = false;
  Wake();
}

void FakeServer::Answer(ipc::ControlSocket& socket, ipc::ControlMessage message) {
  capnp::MallocMessageBuilder answer;
  auto envelope = answer.initRoot<schema::Envelope>();
  envelope.setCall(message.call());
  const schema::Envelope::Reader asked = message.envelope();
  if (asked.isHello()) {
    auto welcome = envelope.initWelcome();
    welcome.setProtocolVersion(schema::PROTOCOL_VERSION);
    welcome.setServer("fake");
    welcome.setGeneration(1);
    ipc::WriteModel(methods_, welcome);
    const int fds[] = {status_handles_.read_only.get(), worker_handles_.read_only.get(),
                       doorbell_.get()};
    Must(socket.Send(answer, fds));
  } else if (asked.isOpenChannel()) {
    const auto open = asked.getOpenChannel();
    uint64_t channel;
    {
      const std::lock_guard lock(mutex_);
      channels_.push_back(
          {.submission = message.TakeFd(0),
           .completion = message.TakeFd(1),
           .event = message.TakeFd(2),
           .submission_bytes = open.getSubmissionBytes(),
           .completion_bytes = open.getCompletionBytes(),
           .results = {.offset = 0, .bytes = open.getDeviceBytes()},
           .inputs = {.offset = open.getDeviceBytes(), .bytes = open.getDeviceInputBytes()}});
      channel = channels_.size();
      if (hold_answers_) {
        waiting_.emplace_back(message.call(), channel);
        return;
      }
    }
    auto opened = envelope.initChannelOpened();
    opened.setChannel(channel);
    opened.setDeviceInputOffset(open.getDeviceBytes());
    Must(socket.Send(answer));
  } else if (asked.isCloseChannel()) {
    closed_.fetch_add(1);
  } else {
    Note(message);
  }
}

void FakeServer::Note(const ipc::ControlMessage& message) {
  const schema::Envelope::Reader envelope = message.envelope();
  std::string text;
  if (envelope.isImported()) {
    const absl::Status status = ipc::ReadStatus(envelope.getImported().getError());
    text = absl::StrCat(status.ok() ? "imported " : "not imported ",
                        envelope.getImported().getGeneration());
  } else if (envelope.isImportsClosed()) {
    text = absl::StrCat("closed ", envelope.getImportsClosed().getGeneration());
  } else if (envelope.isLeases()) {
    const auto leases = envelope.getLeases();
    text = absl::StrCat("leases ", envelope.getCall(), " of ", leases.getGeneration(), ":");
    for (const auto held : leases.getHeld()) {
      absl::StrAppend(&text, " ", held.getChannel(), "x", held.getCount());
    }
  }
  const std::lock_guard lock(mutex_);
  said_.push_back(std::move(text));
  heard_.notify_all();
}

std::vector<std::string> FakeServer::Said() const {
  const std::lock_guard lock(mutex_);
  return said_;
}

bool FakeServer::AwaitSaid(size_t count) const {
  std::unique_lock lock(mutex_);
  return heard_.wait_for(lock, std::chrono::minutes(1), [&] { return said_.size() >= count; });
}

bool FakeServer::AwaitLast(const std::string& text) const {
  std::unique_lock lock(mutex_);
  return heard_.wait_for(lock, std::chrono::minutes(1),
                         [&] { return !said_.empty() && said_.back() == text; });
}

void FakeServer::Post(std::function<void()> command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  Wake();
}

void FakeServer::OfferArena(const ipc::ArenaExport& arena) {
  const int fd = ::fcntl(arena.fd.get(), F_DUPFD_CLOEXEC, 0);
  Post([this, fd, bytes = arena.bytes, generation = arena.generation] {
    const ipc::UniqueFd owned(fd);
    capnp::MallocMessageBuilder message;
    auto offer = message.initRoot<schema::Envelope>().initImportArena();
    offer.setGeneration(generation);
    offer.setBytes(bytes);
    for (ipc::ControlSocket& socket : sockets_) {
      static_cast<void>(socket.Send(message, std::span(&fd, 1)));
    }
  });
}

void FakeServer::SayClosing(uint64_t generation, uint64_t call) {
  Post([this, generation, call] {
    capnp::MallocMessageBuilder message;
    auto envelope = message.initRoot<schema::Envelope>();
    envelope.setCall(call);
    envelope.initGenerationClosing().setGeneration(generation);
    for (ipc::ControlSocket& socket : sockets_) static_cast<void>(socket.Send(message));
  });
}

void FakeServer::SayKept(uint64_t generation) {
  Post([this, generation] {
    capnp::MallocMessageBuilder message;
    message.initRoot<schema::Envelope>().initGenerationKept().setGeneration(generation);
    for (ipc::ControlSocket& socket : sockets_) static_cast<void>(socket.Send(message));
  });
}

void FakeServer::SayCloseImports(uint64_t generation) {
  Post([this, generation] {
    capnp::MallocMessageBuilder message;
    message.initRoot<schema::Envelope>().initCloseImports().setGeneration(generation);
    for (ipc::ControlSocket& socket : sockets_) static_cast<void>(socket.Send(message));
  });
}

std::shared_ptr<internal::Session> FakeServer::Connect(const FrontOptions& options) {
  return Must(internal::Session::Connect(directory_ + "/control", options));
}

Channel FakeServer::Open(const ChannelOptions& options) {
  return Must(internal::ChannelCore::OpenChannel(Connect(), options));
}

runtime::ChannelServer::Descriptors FakeServer::Descriptors(size_t index) const {
  const std::lock_guard lock(mutex_);
  const Kept& kept = channels_.at(index);
  return {.submission = kept.submission.get(),
          .completion = kept.completion.get(),
          .event = kept.event.get(),
          .submission_bytes = kept.submission_bytes,
          .completion_bytes = kept.completion_bytes,
          .results = kept.results,
          .inputs = kept.inputs};
}

size_t FakeServer::opened_channels() const {
  const std::lock_guard lock(mutex_);
  return channels_.size();
}

void FakeServer::ShowReaped(uint64_t generation) {
  status_page().reaped_generation.store(generation, std::memory_order_release);
  status_page().epoch.fetch_add(1, std::memory_order_release);
  ipc::FutexWakeAll(&status_page().epoch);
}

void FakeServer::ShowState(ipc::ServerState state, int64_t hold_started_ns, int64_t gap_ns) {
  status_page().hold_started_ns.store(hold_started_ns);
  status_page().expected_gap_ns.store(gap_ns);
  status_page().state.store(static_cast<uint32_t>(state));
  status_page().epoch.fetch_add(1, std::memory_order_release);
  ipc::FutexWakeAll(&status_page().epoch);
}

// ---- Workers -----------------------------------------------------------------------------------

RawWorker::RawWorker(FakeServer& server, size_t index) {
  const runtime::ChannelServer::Descriptors fds = server.Descriptors(index);
  submission_ =
      Must(ipc::Segment::Map(fds.submission, fds.submission_bytes, ipc::SegmentAccess::kReadOnly));
  completion_ =
      Must(ipc::Segment::Map(fds.completion, fds.completion_bytes, ipc::SegmentAccess::kReadWrite));
  submission_view_ = Must(ipc::ReadSubmissionHeader(submission_.data(), submission_.bytes()));
  completion_view_ = Must(ipc::ReadCompletionHeader(completion_.data(), completion_.bytes()));
}

ipc::CompletionEntry& RawWorker::completion(uint64_t sequence) const {
  auto* entries = reinterpret_cast<ipc::CompletionEntry*>(completion_.data() +
                                                          completion_view_.plan.ring_offset);
  return entries[sequence & (completion_view_.ring_entries - 1)];
}

const ipc::SubmissionEntry& RawWorker::submission(uint64_t sequence) const {
  const auto* entries = reinterpret_cast<const ipc::SubmissionEntry*>(
      submission_.data() + submission_view_.plan.ring_offset);
  return entries[sequence & (submission_view_.ring_entries - 1)];
}

void RawWorker::Fail(uint64_t sequence, uint64_t at, absl::StatusCode code, uint16_t flags) const {
  ipc::CompletionEntry& entry = completion(at);
  entry.request_id = submission(sequence).request_id;
  entry.generation = 1;
  entry.descriptor_token = 0;
  entry.descriptor_bytes = 0;
  entry.needed_bytes = 0;
  entry.service_ns = 0;
  entry.status_code = static_cast<uint16_t>(code);
  entry.flags = flags;
  entry.stamp.store(at, std::memory_order_release);
}

std::span<std::byte> RawWorker::response_block(const ipc::SubmissionEntry& entry) const {
  return {completion_.data() + completion_view_.plan.arena_offset +
              entry.response_granule * ipc::kGranuleBytes,
          entry.response_granules * ipc::kGranuleBytes};
}

absl::Status PlainHost::Await(uint64_t, absl::FunctionRef<bool()> wanted) {
  if (!wanted() && ++looks_ % 4096 == 0) std::this_thread::yield();
  return absl::OkStatus();
}

StepWorker::StepWorker(FakeServer& server, size_t index, uint64_t generation, loader::Model& model,
                       const runtime::ChannelDevice& device)
    : fake_(server),
      model_(model),
      server_(Must(runtime::ChannelServer::Map(index, server.Descriptors(index)))) {
  server_->Join(host_);
  if (device.device != nullptr) server_->UseDevice(device);
  Must(server_->Begin(generation));
}

WorkerThread::WorkerThread(FakeServer& server, size_t index, uint64_t generation,
                           loader::Model& model, bool busy, const runtime::ChannelDevice& device)
    : fake_(server),
      model_(model),
      server_(Must(runtime::ChannelServer::Map(index, server.Descriptors(index)))),
      command_(Must(ipc::CreateEventFd())) {
  if (device.device != nullptr) server_->UseDevice(device);
  thread_ = std::thread([this, generation, busy] {
    server_->Join(host_);
    Must(server_->Begin(generation));
    Run(busy);
  });
}

WorkerThread::~WorkerThread() {
  stop_ = true;
  ipc::SignalEventFd(command_.get());
  thread_.join();
}

void WorkerThread::Run(bool busy) {
  ipc::WorkerSleep sleep(fake_.worker_page().sleeping, fake_.doorbell(), command_.get());
  int64_t now_ns = 0;
  while (!stop_) {
    const bool stepped = server_->StepCalls(fake_.worker_page());
    if (server_->ServeBurst(model_, fake_.worker_page(), &now_ns) > 0 || stepped) continue;
    if (busy) continue;
    // For ever: a wake-up that is lost shows as a request that nobody serves.
    sleep.Sleep([this] { return stop_ || server_->HasWork() || server_->CallsHaveWork(); },
                /*timeout_ms=*/-1);
  }
}

}  // namespace baton::test

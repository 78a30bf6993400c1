#include "bench/weights_server.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "ipc/futex.h"
#include "ipc/schema/control.capnp.h"
#include "ipc/schema_convert.h"

namespace baton::bench {
namespace {

namespace fs = std::filesystem;
using ipc::schema::Envelope;

constexpr absl::Duration kAnswerTimeout = absl::Minutes(2);

absl::StatusOr<ipc::ControlMessage> Ask(ipc::ControlSocket& socket,
                                        capnp::MessageBuilder& message) {
  if (absl::Status sent = socket.Send(message); !sent.ok()) return sent;
  absl::StatusOr<ipc::ControlMessage> answer = socket.Receive(kAnswerTimeout);
  if (answer.ok() && answer->envelope().isError()) {
    return ipc::ReadStatus(answer->envelope().getError());
  }
  return answer;
}

}  // namespace

uint8_t WeightsServer::ByteAt(uint64_t offset) {
  return static_cast<uint8_t>((offset / 8 * 0x9e3779b97f4a7c15u) >> (offset % 8 * 8));
}

absl::Status WeightsServer::WriteWeights(uint64_t bytes) {
  const std::string path = directory_ + "/weights.bin";
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return absl::ErrnoToStatus(errno, path);
  std::vector<uint64_t> block((1 << 20) / sizeof(uint64_t));
  absl::Status status;
  for (uint64_t at = 0; at < bytes && status.ok();) {
    for (size_t i = 0; i < block.size(); ++i) {
      block[i] = (at / 8 + i) * 0x9e3779b97f4a7c15u;
    }
    const size_t size = std::min<uint64_t>(bytes - at, block.size() * sizeof(uint64_t));
    const ssize_t done = ::write(file, block.data(), size);
    if (done <= 0) status = absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
    at += static_cast<uint64_t>(std::max<ssize_t>(done, 0));
  }
  // Written back now, and not while something is measured.
  if (status.ok() && ::fsync(file) != 0) status = absl::ErrnoToStatus(errno, path);
  if (status.ok()) {
    void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    if (mapped == MAP_FAILED) status = absl::ErrnoToStatus(errno, "cannot map the weights");
    if (mapped != MAP_FAILED) weights_ = static_cast<const std::byte*>(mapped);
  }
  ::close(file);
  bytes_ = bytes;
  return status;
}

absl::StatusOr<std::unique_ptr<WeightsServer>> WeightsServer::Launch(uint64_t bytes) {
  std::unique_ptr<WeightsServer> server(new WeightsServer());
  std::string directory = fs::temp_directory_path() / "baton-bench-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) {
    return absl::ErrnoToStatus(errno, "cannot make a temporary directory for the model");
  }
  server->directory_ = directory;
  if (bytes > 0) {
    if (absl::Status written = server->WriteWeights(bytes); !written.ok()) return written;
  }
  std::ofstream config(directory + "/config.yaml");
  config << "name: weights\nloader: native\nfile: " << BATON_WEIGHTS_MODEL << "\n";
  if (bytes > 0) config << "native: {options: {weights_file: " << directory << "/weights.bin}}\n";
  config.close();
  LaunchOptions options;
  options.directory = directory;
  options.front.run_directory = directory + "/run";
  options.front.import_device = true;
  absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(options);
  if (!front.ok()) return front.status();
  server->front_ = *std::move(front);
  if (absl::Status connected = server->Connect(); !connected.ok()) return connected;
  return server;
}

absl::Status WeightsServer::Connect() {
  absl::StatusOr<ipc::ControlSocket> socket = ipc::ControlSocket::Connect(
      absl::StrCat(directory_, "/run/", front_->name(), "/control.sock"), absl::Seconds(5));
  if (!socket.ok()) return socket.status();
  control_ = *std::move(socket);
  capnp::MallocMessageBuilder hello;
  auto envelope = hello.initRoot<Envelope>();
  envelope.setCall(1);
  envelope.initHello().setProtocolVersion(ipc::schema::PROTOCOL_VERSION);
  envelope.getHello().setRole(ipc::schema::Hello::Role::CLIENT);
  if (auto welcome = Ask(control_, hello); !welcome.ok()) return welcome.status();
  capnp::MallocMessageBuilder status;
  status.initRoot<Envelope>().setCall(2);
  status.getRoot<Envelope>().setStatus();
  auto answer = Ask(control_, status);
  if (!answer.ok()) return answer.status();
  supervisor_pid_ = answer->envelope().getStatusReply().getSupervisorPid();
  return absl::OkStatus();
}

absl::StatusOr<ReloadFacts> WeightsServer::Reload() {
  capnp::MallocMessageBuilder message;
  message.initRoot<Envelope>().setCall(3);
  message.getRoot<Envelope>().initReload().setTrigger("command");
  auto answer = Ask(control_, message);
  if (!answer.ok()) return answer.status();
  const auto reply = answer->envelope().getReloadReply();
  if (absl::Status status = ipc::ReadStatus(reply.getError()); !status.ok()) return status;
  const auto receipt = reply.getReceipt();
  if (ipc::ReadText(receipt.getVerdict()) != "freed") {
    return absl::InternalError("a reload without the verdict `freed`");
  }
  ReloadFacts facts;
  for (const auto state : receipt.getStates()) {
    facts.states_ns.emplace_back(ipc::ReadText(state.getState()), state.getNs());
  }
  facts.gap_ns = receipt.getGapNs();
  facts.peak_bytes = receipt.getDeviceBytesPeak();
  facts.successor = receipt.getSuccessor();
  return facts;
}

std::span<const std::byte> WeightsServer::weights() const { return {weights_, bytes_}; }

WeightsServer::~WeightsServer() {
  front_.reset();
  if (weights_ != nullptr) ::munmap(const_cast<std::byte*>(weights_), bytes_);
  std::error_code ignored;
  if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

GapClient::GapClient(Channel channel, uint64_t weight_bytes)
    : channel_(std::move(channel)), weight_bytes_(weight_bytes), thread_([this] { Run(); }) {}

GapClient::~GapClient() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    asked_.store(true);
  }
  changed_.notify_all();
  thread_.join();
}

void GapClient::Pause() {
  std::unique_lock lock(mutex_);
  pause_ = true;
  asked_.store(true);
  changed_.wait(lock, [this] { return parked_; });
}

void GapClient::Resume() {
  {
    const std::lock_guard lock(mutex_);
    pause_ = false;
    asked_.store(stop_);
  }
  changed_.notify_all();
}

bool GapClient::MayCall(int64_t* last) {
  if (!asked_.load()) return true;
  std::unique_lock lock(mutex_);
  parked_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return stop_ || !pause_; });
  if (stop_) return false;  // stays parked
  parked_ = false;
  *last = ipc::MonotonicNs();
  return true;
}

void GapClient::Run() {
  int64_t last = ipc::MonotonicNs();
  uint64_t offset = 0;
  while (MayCall(&last)) {
    offset = weight_bytes_ == 0 ? 0 : (offset + 0x9e3779b97f4a7c15u) % weight_bytes_;
    absl::StatusOr<Request> request = channel_.NewRequest();
    if (!request.ok()) {
      failed_.fetch_add(1);
      const std::lock_guard lock(mutex_);
      stop_ = parked_ = true;
      changed_.notify_all();
      return;
    }
    request->input<uint64_t>("offset")[0] = offset;
    absl::StatusOr<Response> response =
        channel_.Call(*std::move(request), {.timeout = absl::Minutes(1)});
    const int64_t now = ipc::MonotonicNs();
    const uint8_t expected = weight_bytes_ == 0 ? 0 : WeightsServer::ByteAt(offset);
    if (!response.ok() || response->output<uint8_t>("byte")[0] != expected) {
      failed_.fetch_add(1);
      continue;
    }
    // Written here alone, but for Reset between two reloads.
    if (now - last > longest_ns_.load()) longest_ns_.store(now - last);
    last = now;
    generation_.store(response->generation());
    answered_.fetch_add(1);
  }
}

}  // namespace baton::bench

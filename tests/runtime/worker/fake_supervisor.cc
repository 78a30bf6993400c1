#include "tests/runtime/worker/fake_supervisor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <thread>

#include "absl/time/time.h"
#include "capnp/message.h"
#include "capnp/serialize.h"
#include "gtest/gtest.h"

#include "ipc/eventfd.h"
#include "ipc/schema_convert.h"
#include "runtime/worker/worker.h"

namespace baton::runtime {
namespace {

// Only a test that fails waits this long.
constexpr absl::Duration kPatience = absl::Minutes(2);

ipc::UniqueFd SealSecrets(const Secrets& secrets, uint64_t* bytes) {
  capnp::MallocMessageBuilder message;
  auto entries = message.initRoot<ipc::schema::Secrets>().initEntries(secrets.size());
  unsigned i = 0;
  for (const auto& [key, value] : secrets) {
    entries[i].setKey(key);
    entries[i++].setValue(
        kj::arrayPtr(reinterpret_cast<const kj::byte*>(value.data()), value.size()));
  }
  const auto words = capnp::messageToFlatArray(message);
  *bytes = words.asBytes().size();
  ipc::UniqueFd fd(::memfd_create("secrets", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.get(), words.begin(), *bytes), static_cast<ssize_t>(*bytes));
  return fd;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

Stage::Stage() {
  directory_ = (std::filesystem::temp_directory_path() / "baton_worker_test.XXXXXX").string();
  EXPECT_NE(::mkdtemp(directory_.data()), nullptr);
  std::filesystem::create_symlink(std::getenv("BATON_SCRIPTED_MODEL"), directory_ + "/model.so");
  WriteConfig("loader: native\n");
  std::ofstream(trace_path()).flush();
  page_handles_ =
      *ipc::CreateSegment({.bytes = ipc::kPageBytes, .backing = ipc::SegmentBacking::kMemfd});
  page_ = *ipc::Segment::Map(page_fd(), ipc::kPageBytes, ipc::SegmentAccess::kReadWrite);
  auto* fresh = new (page_.data()) ipc::WorkerPage{};
  fresh->magic = ipc::kWorkerPageMagic;
  fresh->version.store(ipc::kPageVersion, std::memory_order_release);
  doorbell_ = *ipc::CreateEventFd();
}

Stage::~Stage() {
  if (testing::Test::HasFailure()) std::fprintf(stderr, "worker's log:\n%s", Log().c_str());
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void Stage::WriteConfig(const std::string& yaml) const {
  std::ofstream(directory_ + "/config.yaml") << yaml;
}

std::vector<std::string> Stage::Trace() const {
  std::vector<std::string> lines;
  std::ifstream file(trace_path());
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void Stage::WaitForTrace(const std::string& line) const {
  for (;;) {
    const std::vector<std::string> lines = Trace();
    if (std::find(lines.begin(), lines.end(), line) != lines.end()) return;
    std::this_thread::yield();
  }
}

std::string Stage::Log() const { return ReadFile(log_path()); }

FakeSupervisor::FakeSupervisor(const Stage& stage, uint64_t generation, const Secrets& secrets,
                               int leaked) {
  auto pair = *ipc::ControlSocket::MakePair();
  socket_ = std::move(pair.first);
  const ipc::UniqueFd log(
      ::open(stage.log_path().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  ipc::SpawnOptions options;
  options.executable = std::getenv("BATON_WORKER");
  options.fds = {{pair.second.get(), kWorkerControlFd}, {log.get(), 2}};
  if (leaked >= 0) options.fds.push_back({leaked, 99});
  auto process = ipc::SpawnProcess(options);
  EXPECT_TRUE(process.ok()) << process.status();
  if (process.ok()) process_ = *std::move(process);

  Secrets all = secrets;
  all["BATON_TEST_TRACE"] = stage.trace_path();
  uint64_t bytes = 0;
  const ipc::UniqueFd sealed = SealSecrets(all, &bytes);
  Send(
      [&](Envelope::Builder envelope) {
        envelope.setCall(1);
        auto start = envelope.initStart();
        start.setServer("scripted");
        start.setGeneration(generation);
        start.setDirectory(stage.directory());
        start.setSecretsBytes(bytes);
      },
      {stage.page_fd(), stage.doorbell_fd(), sealed.get()});
}

void FakeSupervisor::Send(const std::function<void(Envelope::Builder)>& fill,
                          std::vector<int> fds) {
  capnp::MallocMessageBuilder message;
  fill(message.initRoot<Envelope>());
  const absl::Status sent = socket_.Send(message, fds);
  EXPECT_TRUE(sent.ok()) << sent;
}

void FakeSupervisor::Admit(uint64_t call, uint64_t capacity_bytes) {
  Send([&](Envelope::Builder envelope) {
    envelope.setCall(call);
    envelope.initAdmit().setCapacityBytes(capacity_bytes);
  });
}

void FakeSupervisor::Serve() {
  Send([](Envelope::Builder envelope) { envelope.setServe(); });
}

void FakeSupervisor::Hold(uint64_t call) {
  Send([&](Envelope::Builder envelope) {
    envelope.setCall(call);
    envelope.setHold();
  });
}

void FakeSupervisor::Exit() {
  Send([](Envelope::Builder envelope) { envelope.setExit(); });
}

ipc::ControlMessage FakeSupervisor::Expect(Envelope::Which which, uint64_t call) {
  absl::StatusOr<ipc::ControlMessage> message = socket_.Receive(kPatience);
  if (!message.ok()) {
    ADD_FAILURE() << message.status();
    // An empty envelope, for the caller to go on with.
    capnp::MallocMessageBuilder nothing;
    nothing.initRoot<Envelope>();
    return *ipc::ControlMessage::Parse({capnp::messageToFlatArray(nothing), {}});
  }
  const auto envelope = message->envelope();
  EXPECT_EQ(envelope.which(), which)
      << (envelope.isFailed() ? ipc::ReadStatus(envelope.getFailed()).ToString() : "");
  EXPECT_EQ(message->call(), call);
  return *std::move(message);
}

void FakeSupervisor::ExpectReady(uint64_t call) {
  Expect(Envelope::ARENA, call);
  Expect(Envelope::READY, call);
}

absl::Status FakeSupervisor::ExpectFailed(uint64_t call) {
  const ipc::ControlMessage message = Expect(Envelope::FAILED, call);
  if (!message.envelope().isFailed()) return absl::OkStatus();
  return ipc::ReadStatus(message.envelope().getFailed());
}

void FakeSupervisor::BringUp() {
  Expect(Envelope::STAGED, 1);
  Admit(2, 1 << 20);
  ExpectReady(2);
  Serve();
}

ipc::ExitStatus FakeSupervisor::Reap() {
  absl::StatusOr<ipc::ExitStatus> status = process_.Reap(kPatience);
  EXPECT_TRUE(status.ok()) << status.status();
  return status.value_or(ipc::ExitStatus{});
}

}  // namespace baton::runtime

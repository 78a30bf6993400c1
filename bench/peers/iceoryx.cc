#include "bench/peers/iceoryx.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "bench/peers/peer_end.h"
#include "iceoryx_hoofs/log/logmanager.hpp"
#include "iceoryx_hoofs/posix_wrapper/posix_access_rights.hpp"
#include "iceoryx_posh/iceoryx_posh_types.hpp"
#include "iceoryx_posh/internal/roudi/roudi.hpp"
#include "iceoryx_posh/popo/untyped_client.hpp"
#include "iceoryx_posh/popo/untyped_server.hpp"
#include "iceoryx_posh/roudi/iceoryx_roudi_components.hpp"
#include "iceoryx_posh/runtime/posh_runtime.hpp"
#include "ipc/futex.h"

namespace baton::bench {
namespace {

constexpr char kName[] = "Iceoryx";
constexpr char kDaemon[] = "RouDi";
constexpr uint32_t kAlignment = 8;
constexpr uint64_t kMiB = 1 << 20;

template <typename Text>
Text Cut(const std::string& text) {
  return Text(iox::cxx::TruncateToCapacity, text);
}

iox::capro::ServiceDescription Service(const PeerSetup& setup) {
  return {"baton-bench", "echo", Cut<iox::capro::IdString_t>(setup.rendezvous)};
}

void LogOnly(iox::log::LogLevel level) {
  iox::log::LogManager::GetLogManager().SetDefaultLogLevel(level,
                                                           iox::log::LogLevelOutput::kHideLogLevel);
}

// This process as a client of the daemon, which it starts first. Once in a
// process, and until its end: iceoryx has no other way. The order matters:
// iceoryx takes leave of the daemon in a destructor of its own.
absl::Status JoinDaemon(const PeerSetup& setup, int cpu) {
  static const absl::StatusOr<std::unique_ptr<PeerEnd>> daemon =
      PeerEnd::Start({.kind = kDaemon, .setup = setup, .cpu = cpu, .stops_itself = true});
  if (!daemon.ok()) return daemon.status();
  static const bool joined = [&] {
    LogOnly(iox::log::LogLevel::kOff);
    iox::runtime::PoshRuntime::initRuntime(
        Cut<iox::RuntimeName_t>(absl::StrCat(setup.rendezvous, "-front")));
    return true;
  }();
  static_cast<void>(joined);
  return absl::OkStatus();
}

class Iceoryx final : public Peer {
 public:
  Iceoryx(PeerSetup setup, std::unique_ptr<PeerEnd> end)
      : setup_(std::move(setup)), end_(std::move(end)), client_(Service(setup_)) {}

  absl::Status Connect() {
    const bool connected = end_->SpinUntil(
        [this] { return client_.getConnectionState() == iox::ConnectionState::CONNECTED; });
    return connected ? absl::OkStatus() : end_->Gone();
  }

  void Resume() override { end_->Resume(); }
  void Pause() override { end_->Pause(); }
  absl::Status RoundTrip(uint64_t seed) override {
    auto request = client_.loan(static_cast<uint32_t>(setup_.bytes), kAlignment);
    if (request.has_error()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "iceoryx lends no ", setup_.bytes, " bytes: is /dev/shm large enough for them?"));
    }
    if (setup_.produced()) {
      WritePayload({static_cast<std::byte*>(request.value()), setup_.bytes}, seed);
    }
    if (client_.send(request.value()).has_error()) {
      return absl::UnavailableError("iceoryx does not send");
    }
    const void* answer = nullptr;
    const bool came = end_->SpinUntil([&] {
      auto taken = client_.take();
      if (!taken.has_error()) answer = taken.value();
      return answer != nullptr;
    });
    if (!came) return end_->Gone();
    const uint64_t sum = *static_cast<const uint64_t*>(answer);
    client_.releaseResponse(answer);
    return CheckSum(setup_, seed, sum);
  }

 private:
  const PeerSetup setup_;
  const std::unique_ptr<PeerEnd> end_;
  iox::popo::UntypedClient client_;
};

absl::StatusOr<std::unique_ptr<Peer>> Start(const PeerSetup& setup, int cpu) {
  if (absl::Status status = JoinDaemon(setup, cpu); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<PeerEnd>> end =
      PeerEnd::Start({.kind = kName, .setup = setup, .cpu = cpu, .stops_itself = true});
  if (!end.ok()) return end.status();
  auto peer = std::make_unique<Iceoryx>(setup, *std::move(end));
  if (absl::Status status = peer->Connect(); !status.ok()) return status;
  return peer;
}

absl::Status Serve(EndSide& side) {
  LogOnly(iox::log::LogLevel::kOff);
  iox::runtime::PoshRuntime::initRuntime(Cut<iox::RuntimeName_t>(side.setup().rendezvous));
  iox::popo::UntypedServer server(Service(side.setup()));
  side.Ready();
  while (!side.stopped()) {
    auto taken = server.take();
    if (taken.has_error()) {
      side.StepAside();
      continue;
    }
    const auto* const header = iox::popo::RequestHeader::fromPayload(taken.value());
    const uint64_t sum =
        side.Read({static_cast<const std::byte*>(taken.value()), side.setup().bytes});
    auto answer = server.loan(header, sizeof(sum), kAlignment);
    if (answer.has_error()) return absl::ResourceExhaustedError("iceoryx lends no 8 bytes");
    *static_cast<uint64_t*>(answer.value()) = sum;
    if (server.send(answer.value()).has_error()) {
      return absl::UnavailableError("iceoryx does not send");
    }
    server.releaseRequest(taken.value());
  }
  return absl::OkStatus();
}

// Room for payloads of the sizes that there is room for in /dev/shm, and a bit.
iox::RouDiConfig_t DaemonConfig() {
  iox::mepoo::MePooConfig pools;
  pools.addMemPool({1024, 256});
  pools.addMemPool({8 * 1024, 32});
  pools.addMemPool({512 * 1024, 16});
  pools.addMemPool({5 * kMiB, 8});
  struct statvfs room {};
  if (::statvfs("/dev/shm", &room) == 0 && room.f_bavail * room.f_bsize > 512 * kMiB) {
    pools.addMemPool({65 * kMiB, 4});
  }
  iox::RouDiConfig_t config;
  const auto group = iox::posix::PosixGroup::getGroupOfCurrentProcess().getName();
  config.m_sharedMemorySegments.push_back({group, group, pools});
  return config;
}

absl::Status RunDaemon(EndSide& side) {
  // When the harness is killed the daemon still takes its names out of /dev/shm.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  static volatile sig_atomic_t told_to_end = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { told_to_end = 1; };
  ::sigaction(SIGTERM, &action, nullptr);
  LogOnly(iox::log::LogLevel::kError);
  iox::roudi::IceOryxRouDiComponents components(DaemonConfig());
  iox::roudi::RouDi daemon(
      components.rouDiMemoryManager, components.portManager,
      iox::roudi::RouDi::RoudiStartupParameters{iox::roudi::MonitoringMode::OFF,
                                                /*killProcessesInDestructor=*/false});
  side.Ready();
  while (!side.stopped() && told_to_end == 0) {
    const ipc::FutexWord word{.word = &side.page().stop, .expected = 0};
    ipc::FutexWaitAny({&word, 1}, ipc::MonotonicNs() + 100'000'000);
  }
  return absl::OkStatus();
}

}  // namespace

PeerKind IceoryxKind() { return {.name = kName, .start = Start, .serve = Serve}; }
PeerKind RouDiKind() { return {.name = kDaemon, .serve = RunDaemon}; }

}  // namespace baton::bench

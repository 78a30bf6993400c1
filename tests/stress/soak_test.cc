// Reloads under load, again and again (A17, A18, A21, A22, R2): two services with two channels
// each, several requests in flight on every one, while secrets change and commands come. No request
// is failed, lost or answered twice, and nothing grows.
//
//   BATON_SOAK_RELOADS=1000       how many reloads; without it a few minutes' worth
//   BATON_SOAK_REPORT=FILE        the figures as JSON
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tests/runtime/supervisor/control_client.h"
#include "tests/stress/soak_front.h"
#include "tests/stress/soak_report.h"
#include "tests/system/secrets_test_base.h"

namespace baton::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr uint64_t kWeights = 4 << 20;
constexpr size_t kServices = 2;
// What is made once (buffers, pages of the code, arenas of the allocator) is made by then.
constexpr uint64_t kWarmUp = 50;

uint64_t Reloads() {
  const char* asked = std::getenv("BATON_SOAK_RELOADS");
  const uint64_t reloads =
      asked == nullptr ? (kSanitized ? 60 : 300) : std::strtoull(asked, nullptr, 10);
  return std::clamp<uint64_t>(reloads, 4, kMaxSoakGenerations - 2);
}

class Service {
 public:
  Service(const TempDirectory& temp, const std::string& run_directory, int number) {
    const std::string file = temp.Write(absl::StrCat("soak-", number), "");
    EXPECT_EQ(::truncate(file.c_str(), sizeof(SoakTally)), 0);
    const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    tally_ = static_cast<SoakTally*>(
        ::mmap(nullptr, sizeof(SoakTally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
    absl::StatusOr<ipc::ChildProcess> process = ipc::SpawnProcess(
        {.executable = BATON_SOAK_FRONT,
         .args = {run_directory, "test", file, absl::StrCat(number)},
         .env = std::vector<std::string>{absl::StrCat("BATON_TEST_MARK=", temp.path())}});
    EXPECT_TRUE(process.ok()) << process.status();
    if (process.ok()) process_ = *std::move(process);
  }
  ~Service() { ::munmap(tally_, sizeof(SoakTally)); }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  SoakTally& tally() { return *tally_; }
  pid_t pid() const { return process_.pid(); }
  absl::StatusOr<ipc::ExitStatus> Finish() {
    tally_->stop.store(1);
    return process_.Reap(absl::Minutes(5));
  }

 private:
  SoakTally* tally_ = nullptr;
  ipc::ChildProcess process_;
};

class SoakTest : public SecretsSystemTest {
 protected:
  void Start() {
    WriteToken();
    options_.secrets_directory = secrets_;
    options_.directory = ProbeModel(temp_, {"behaviour: echo_env", "variable: TOKEN",
                                            absl::StrCat("weights_bytes: ", kWeights)});
    absl::StatusOr<std::unique_ptr<TestServer>> server = TestServer::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    for (size_t i = 0; i < kServices; ++i) {
      services_[i] = std::make_unique<Service>(temp_, options_.run_directory, static_cast<int>(i));
    }
    expected_ = {0, value_};
    ASSERT_TRUE(WaitUntilAllAnswer(1));
    absl::StatusOr<ControlClient> client = ControlClient::Open(options_.run_directory, "test");
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  void WriteToken() { WriteSecret("TOKEN", absl::StrCat(kSoakValue, ++value_)); }

  // Until every channel has an answer of that generation.
  bool WaitUntilAllAnswer(uint64_t generation) {
    return WaitFor([&] {
      for (const auto& service : services_) {
        for (SoakChannelTally& channel : service->tally().channels) {
          if (channel.last_generation.load() < generation) return false;
        }
      }
      return true;
    });
  }

  // The next one comes while requests are in flight, by a change or by a command in turn; exactly
  // one generation each, or the numbers part.
  void ReloadOnce() {
    const uint64_t next = expected_.size();
    if (next % 2 == 0) {
      WriteToken();
      ++report_.by_secrets;
    } else {
      const ControlClient::Reloaded reloaded = client_.Reload();
      ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
      ASSERT_EQ(reloaded.outcome, "swapped") << reloaded.reason;
      ASSERT_EQ(reloaded.verdict, "freed");
      ASSERT_EQ(reloaded.successor, next);
      ++report_.by_command;
    }
    expected_.push_back(value_);
    ASSERT_TRUE(WaitUntilAllAnswer(next)) << "generation " << next << " does not answer everybody";
    ++report_.reloads;
  }

  // With the reload behind it: its receipt is the last thing that it writes.
  void Sample(SoakSample* to) {
    ASSERT_TRUE(WaitFor([&] { return server_->Receipts().size() >= report_.reloads; }));
    *to = TakeSample();
  }
  SoakSample TakeSample() {
    SoakSample sample{.reloads = report_.reloads,
                      .supervisor = FiguresOf(server_->pid()),
                      .worker = {},
                      .fronts = {FiguresOf(services_[0]->pid()), FiguresOf(services_[1]->pid())},
                      .processes = MarkedProcesses(temp_.path()).size(),
                      .zombies = static_cast<int>(ZombiesOf(server_->pid()).size()) + Zombies(),
                      .shared_memory_names = SharedMemoryNames().size()};
    const std::vector<pid_t> workers = server_->Workers();
    if (workers.size() == 1) sample.worker = FiguresOf(workers.front());
    return sample;
  }

  void AddUp() {
    for (const auto& service : services_) {
      EXPECT_EQ(service->tally().leaked_blocks.load(), 0u);
      EXPECT_EQ(service->tally().has_error.load(), 0u) << service->tally().first_error;
      for (SoakChannelTally& channel : service->tally().channels) AddUp(channel);
    }
  }
  void AddUp(SoakChannelTally& channel) {
    report_.submitted += channel.submitted.load();
    report_.answered += channel.answered.load();
    report_.failed += channel.failed.load();
    report_.lost += channel.lost.load();
    report_.duplicated += channel.duplicated.load();
    report_.wrong += channel.wrong.load();
    report_.reordered += channel.reordered.load();
    report_.went_back += channel.went_back.load();
    for (uint64_t generation = 1; generation < expected_.size(); ++generation) {
      // A18: the secret that each generation was brought up with.
      EXPECT_EQ(channel.value[generation].load(), expected_[generation]) << generation;
      if (generation == 1) continue;
      EXPECT_GT(channel.gap_ns[generation].load(), 0u) << generation;
      report_.gaps_ns.push_back(channel.gap_ns[generation].load());
    }
  }

  void ExpectNothingGrew() const;

  std::array<std::unique_ptr<Service>, kServices> services_;
  ControlClient client_;
  uint32_t value_ = 0;              // the secret's number
  std::vector<uint32_t> expected_;  // by generation
  SoakReport report_;
};

// Memory that a reload leaves behind adds up; what the allocator keeps for reuse does not. What one
// could leave at least (a worker's handle, a receipt with its states, a message) is several hundred
// bytes: kReloadBytes is less. kNoiseBytes is one trim threshold of the allocator, for pages that
// it has given back at one moment and not at the other; the full soak drowns it.
constexpr uint64_t kReloadBytes = 128;
constexpr uint64_t kNoiseBytes = 128 * 1024;
// Of pages of programs and libraries the kernel maps a few more with each that is touched.
constexpr uint64_t kFilePagesBytes = 512 * 1024;

void SoakTest::ExpectNothingGrew() const {
  const SoakSample& first = report_.first;
  const SoakSample& last = report_.last;
  const uint64_t reloads = last.reloads - first.reloads;
  const auto flat = [&](const char* who, const ProcessFigures& before,
                        const ProcessFigures& after) {
    SCOPED_TRACE(who);
    EXPECT_EQ(after.descriptors, before.descriptors);
    // One left a reload would be `reloads` more.
    EXPECT_LE(after.mappings, before.mappings + static_cast<int>(reloads / 10) + 2);
    // A sanitizer's allocator keeps what was freed in a quarantine, up to 256 MiB.
    if (kSanitized) return;
    const uint64_t growth = kNoiseBytes + reloads * kReloadBytes;
    EXPECT_LE(after.own_bytes, before.own_bytes + growth);
    EXPECT_LE(after.resident_bytes, before.resident_bytes + growth + kFilePagesBytes);
  };
  flat("supervisor", first.supervisor, last.supervisor);
  flat("worker", first.worker, last.worker);
  flat("front 1", first.fronts[0], last.fronts[0]);
  flat("front 2", first.fronts[1], last.fronts[1]);
  EXPECT_EQ(first.processes, 3 + kServices)
      << "supervisor, its confirmation helper, worker and the services";
  EXPECT_EQ(last.processes, first.processes);
  EXPECT_EQ(last.zombies, 0);
  EXPECT_EQ(last.shared_memory_names, first.shared_memory_names);
}

TEST_F(SoakTest, A17_A18_A21_A22_ReloadsUnderLoadLoseNothingAndLeaveNothing) {
  const absl::Time started = absl::Now();
  ASSERT_NO_FATAL_FAILURE(Start());
  DeviceObserver observer(server_->pid(), {services_[0]->pid(), services_[1]->pid()},
                          absl::Milliseconds(1));
  const uint64_t reloads = Reloads();
  const uint64_t warm_up = std::min(kWarmUp, reloads / 2);
  while (report_.reloads < reloads) {
    ASSERT_NO_FATAL_FAILURE(ReloadOnce());
    if (report_.reloads == warm_up) {
      ASSERT_NO_FATAL_FAILURE(Sample(&report_.first));
    }
  }
  ASSERT_NO_FATAL_FAILURE(Sample(&report_.last));
  observer.Stop();
  for (const auto& service : services_) {
    const absl::StatusOr<ipc::ExitStatus> ended = service->Finish();
    ASSERT_TRUE(ended.ok()) << ended.status();
    EXPECT_TRUE(ended->clean()) << ipc::ToString(*ended);
  }
  AddUp();
  report_.device_peak_bytes = observer.peak_bytes();
  report_.device_peak_arenas = observer.peak_arenas();
  report_.device_samples = observer.samples();
  report_.device_model_bytes = kWeights;
  report_.seconds = absl::ToDoubleSeconds(absl::Now() - started);
  std::fputs(report_.Text().c_str(), stdout);
  if (const char* file = std::getenv("BATON_SOAK_REPORT")) std::ofstream(file) << report_.Json();

  EXPECT_EQ(report_.failed, 0u);
  EXPECT_EQ(report_.lost, 0u);
  EXPECT_EQ(report_.duplicated, 0u);
  EXPECT_EQ(report_.wrong, 0u);
  EXPECT_EQ(report_.reordered, 0u);
  EXPECT_EQ(report_.went_back, 0u);
  EXPECT_EQ(report_.answered, report_.submitted);
  EXPECT_EQ(report_.gaps_ns.size(), reloads * kServices * kSoakChannels);
  EXPECT_EQ(server_->Receipts().size(), reloads);
  // A21, as an outsider sees it.
  EXPECT_EQ(report_.device_peak_arenas, 1u) << "two generations held device memory at once";
  EXPECT_GE(report_.device_peak_bytes, kWeights) << "the observer saw nothing";
  EXPECT_LE(report_.device_peak_bytes, kWeights * 102 / 100);
  EXPECT_GT(report_.device_samples, reloads);
  ExpectNothingGrew();
  const absl::StatusOr<ipc::ExitStatus> stopped = server_->Stop();
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_TRUE(stopped->clean());
}

}  // namespace
}  // namespace baton::testing

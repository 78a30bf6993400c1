// The program itself, with a budget that is too small for figures: which rows
// it shows, and what is left of it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "ipc/process.h"
#include "ipc/unique_fd.h"
#include "tests/system/test_server.h"
#include "tests/tools/shmctl/json_reader.h"

namespace baton::bench {
namespace {

using testing::JsonReader;
using testing::MarkedProcesses;
using testing::WaitFor;

constexpr const char* kPercentiles[] = {"p50_ns",  "p90_ns",   "p99_ns",
                                        "p999_ns", "p9999_ns", "max_ns"};

JsonReader ReadJson(const std::string& path) {
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  std::replace(text.begin(), text.end(), '\n', ' ');
  return JsonReader(text + "\n");
}

class LatencyBenchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    program_ = std::getenv("BATON_LATENCY_BENCH");
    mark_ = absl::StrCat("latency-bench.", ::getpid());
    std::filesystem::create_directories(temp_.path() + "/tmp");
    ::setenv("BATON_TEST_MARK", mark_.c_str(), 1);
    ::setenv("TMPDIR", (temp_.path() + "/tmp").c_str(), 1);
  }

  absl::StatusOr<ipc::ChildProcess> Start(std::vector<std::string> args) {
    args.push_back("--benchmark_format=json");
    const ipc::UniqueFd out(
        ::open(output().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    return ipc::SpawnProcess({.executable = program_, .args = args, .fds = {{out.get(), 1}}});
  }
  // Its exit code. Nothing that it started is left then.
  int Run(const std::vector<std::string>& args) {
    absl::StatusOr<ipc::ChildProcess> process = Start(args);
    if (!process.ok()) return ADD_FAILURE() << process.status(), -1;
    const auto end = process->Reap(absl::Minutes(14));
    if (!end.ok()) return ADD_FAILURE() << end.status(), -1;
    EXPECT_TRUE(WaitFor([this] { return MarkedProcesses(mark_).empty(); }));
    EXPECT_TRUE(std::filesystem::is_empty(temp_.path() + "/tmp"));
    EXPECT_EQ(NamesInSharedMemory(process->pid()), std::vector<std::string>());
    return end->kind == ipc::ExitStatus::Kind::kExited ? end->value : -1;
  }
  static std::vector<std::string> NamesInSharedMemory(pid_t pid) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      const std::string name = entry.path().filename();
      if (absl::StrContains(name, absl::StrCat("baton-bench-", pid, "-"))) names.push_back(name);
    }
    return names;
  }
  bool HasPeer() const {
    for (const pid_t pid : MarkedProcesses(mark_)) {
      std::ifstream file(absl::StrCat("/proc/", pid, "/cmdline"));
      const std::string line{std::istreambuf_iterator<char>(file), {}};
      if (absl::StrContains(line, "--peer_end=")) return true;
    }
    return false;
  }
  std::string output() const { return temp_.path() + "/out.json"; }

  const testing::TempDirectory temp_;
  std::string program_;
  std::string mark_;
};

void ExpectLatencies(const JsonReader& row, const std::string& name) {
  double before = 0;
  for (const char* counter : kPercentiles) {
    const double ns = row[counter].Number();
    EXPECT_GT(ns, 0) << name << " " << counter;
    EXPECT_GE(ns, before) << name << " " << counter;
    before = ns;
  }
  EXPECT_GT(row["samples"].Number(), 0) << name;
  EXPECT_TRUE(name == "PingPongFloor" || row["x_floor"].Number() > 0) << name;
}

TEST_F(LatencyBenchTest, ShowsEveryRowWithAllItsCounters) {
  const std::string histograms = temp_.path() + "/histograms.json";
  ASSERT_EQ(Run({"--seconds_per_row=0.005", "--slices=1",
                 "--benchmark_filter=-/(4194304|67108864)/", "--histograms=" + histograms}),
            0);
  const JsonReader json = ReadJson(output());
  EXPECT_FALSE(json["context"]["machine"].Text().empty());
  std::map<std::string, double> samples;
  for (size_t i = 0; i < json["benchmarks"].size(); ++i) {
    const JsonReader row = json["benchmarks"][i];
    const std::string name = row["name"].Text();
    if (row.Keys().contains("error_occurred")) {
      // One daemon a machine, and the room in /dev/shm is not ours to say.
      EXPECT_TRUE(absl::StartsWith(name, "Iceoryx/")) << name << row["error_message"].Text();
      continue;
    }
    if (absl::StartsWith(name, "Channels/")) {
      EXPECT_GT(row["requests_per_s"].Number(), 0);
      EXPECT_GT(row["x_channels1"].Number(), 0);
    }
    if (absl::StartsWith(name, "WakeLatency/")) {
      EXPECT_GT(row["cpu_share"].Number(), 0);
    }
    if (absl::StartsWith(name, "IdleCpu/")) {
      EXPECT_TRUE(row.Keys().contains("server_cpu_share"));
      samples[name] = 0;
    } else if (absl::StartsWith(name, "Fronts/")) {
      EXPECT_GT(row["requests_per_s"].Number(), 0);
      EXPECT_GT(row["x_fronts1"].Number(), 0);
      samples[name] = 0;
    } else {
      ExpectLatencies(row, name);
      samples[name] = row["samples"].Number();
    }
  }
  for (const char* name : {"PingPongFloor",
                           "RoundTrip/64/in_place",
                           "RoundTrip/262144/produced",
                           "Bound/64/in_place",
                           "Bound/262144/produced",
                           "WakeLatency/0",
                           "WakeLatency/200",
                           "Fronts/1",
                           "Fronts/8",
                           "WriteRead/4096/produced",
                           "BoostMessageQueue/64/in_place",
                           "BoostMessageQueueBlocking/64/produced",
                           "UnixSocket/262144/in_place",
                           "FutexWake",
                           "RoundTripSleeping",
                           "SpscRing",
                           "Pipelined/32",
                           "Channels/1",
                           "Channels/64",
                           "BusyAmongIdle/0",
                           "BusyAmongIdle/64",
                           "IdleCpu/1",
                           "IdleCpu/64"}) {
    EXPECT_TRUE(samples.contains(name)) << name;
  }
  EXPECT_FALSE(samples.contains("RoundTrip/4194304/in_place")) << "it was not asked for";

  const JsonReader file = ReadJson(histograms);
  ASSERT_GT(file["histograms"].size(), 10u);
  for (size_t i = 0; i < file["histograms"].size(); ++i) {
    const JsonReader one = file["histograms"][i];
    EXPECT_EQ(one["count"].Number(), samples[one["name"].Text()]) << one["name"].Text();
  }
}

TEST_F(LatencyBenchTest, ComparesWithinARun) {
  ASSERT_EQ(Run({"--seconds_per_row=0.01", "--slices=2",
                 "--benchmark_filter=^(UnixSocket/64/produced|Pipelined/32|RoundTripSleeping)$"}),
            0);
  const JsonReader json = ReadJson(output());
  std::map<std::string, JsonReader> rows;
  for (size_t i = 0; i < json["benchmarks"].size(); ++i) {
    rows.emplace(json["benchmarks"][i]["name"].Text(), json["benchmarks"][i]);
  }
  ASSERT_EQ(rows.size(), 3u) << "only what was asked for";
  // A kernel's socket against shared memory alone, and against Baton. How they compare is not
  // asked: on a busy machine the floor waits for its CPU.
  EXPECT_GT(rows.at("UnixSocket/64/produced")["x_floor"].Number(), 0);
  EXPECT_GT(rows.at("UnixSocket/64/produced")["x_write_read"].Number(), 0);
  EXPECT_GT(rows.at("UnixSocket/64/produced")["x_baton"].Number(), 0);
  EXPECT_GT(rows.at("Pipelined/32")["x_spsc_ring"].Number(), 0);
  EXPECT_GT(rows.at("RoundTripSleeping")["x_futex_wake"].Number(), 0);
}

TEST_F(LatencyBenchTest, RefusesAnArgumentThatItDoesNotKnow) {
  EXPECT_EQ(Run({"--second_per_row=1"}), 2);
  EXPECT_EQ(Run({"--seconds_per_row=none"}), 2);
  EXPECT_EQ(Run({"--benchmark_filter=("}), 2);
}

TEST_F(LatencyBenchTest, NothingOutlivesItWhenItIsKilled) {
  absl::StatusOr<ipc::ChildProcess> process =
      Start({"--seconds_per_row=600", "--slices=10",
             "--benchmark_filter=^(UnixSocket|BoostMessageQueue|WriteRead)/64/produced"});
  ASSERT_TRUE(process.ok()) << process.status();
  ASSERT_TRUE(WaitFor([this] { return HasPeer(); }));
  ASSERT_TRUE(process->Kill(SIGKILL).ok());
  ASSERT_TRUE(process->Reap(absl::Minutes(1)).ok());
  EXPECT_TRUE(WaitFor([this] { return MarkedProcesses(mark_).empty(); }));
}

}  // namespace
}  // namespace baton::bench

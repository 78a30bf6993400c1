// What gpu_check measures of a whole server, over the simulated GPU.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

#include "ipc/process.h"
#include "tests/simgpu/sim_gpu.h"
#include "tests/system/test_server.h"

namespace baton::gpu_check {
namespace {

using testing::MarkedProcesses;
using testing::WaitFor;

constexpr uint64_t kMiB = 1 << 20;

struct TableRow {
  double figure = 0;
  std::string outcome;
  std::string note;
};

class ServedMeasurementsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const programs = std::getenv("BATON_LIBEXEC_DIR");
    ASSERT_NE(programs, nullptr) << "run me with ctest";
    program_ = absl::StrCat(programs, "/baton-gpu-measure");
    mark_ = absl::StrCat("gpu-check.", ::getpid());
    std::filesystem::create_directories(temp_.path() + "/tmp");
    ::setenv("BATON_TEST_MARK", mark_.c_str(), 1);
    ::setenv("TMPDIR", (temp_.path() + "/tmp").c_str(), 1);
  }

  absl::StatusOr<ipc::ChildProcess> Start(const testing::SimGpu& gpu, const std::string& only) {
    gpu.UseInThisProcess();
    return ipc::SpawnProcess(
        {.executable = program_,
         .args = {"--simulated", "--small", "--only", only, "--markdown", temp_.path() + "/t.md"}});
  }
  // Its exit code. Nothing that it started, and no file, is left then.
  int Run(const testing::SimGpu& gpu, const std::string& only) {
    absl::StatusOr<ipc::ChildProcess> process = Start(gpu, only);
    if (!process.ok()) return ADD_FAILURE() << process.status(), -1;
    const auto end = process->Reap(absl::Minutes(14));
    if (!end.ok()) return ADD_FAILURE() << end.status(), -1;
    EXPECT_TRUE(WaitFor([this] { return MarkedProcesses(mark_).empty(); }));
    EXPECT_TRUE(std::filesystem::is_empty(temp_.path() + "/tmp"));
    ReadTable();
    return end->kind == ipc::ExitStatus::Kind::kExited ? end->value : -1;
  }
  const TableRow& Row(const std::string& name) {
    EXPECT_TRUE(rows_.contains(name)) << "no row '" << name << "' in\n" << text_;
    return rows_[name];
  }
  void ExpectFact(const std::string& name) {
    EXPECT_EQ(Row("fact: " + name).outcome, "as expected") << name << ": " << Row(name).note;
  }
  // Whether the server is there, with a worker.
  bool HasWorker() const {
    for (const pid_t pid : MarkedProcesses(mark_)) {
      std::ifstream comm(absl::StrCat("/proc/", pid, "/comm"));
      std::string name;
      if (std::getline(comm, name) && absl::StartsWith(name, "baton-worker")) return true;
    }
    return false;
  }

  testing::TempDirectory temp_;
  std::string program_;
  std::string mark_;
  std::string text_;
  std::map<std::string, TableRow> rows_;

 private:
  void ReadTable() {
    std::ifstream file(temp_.path() + "/t.md");
    for (std::string line; std::getline(file, line);) {
      absl::StrAppend(&text_, line, "\n");
      const std::vector<std::string> cells = absl::StrSplit(line, " | ");
      if (cells.size() != 5 || !absl::StartsWith(cells[0], "| ")) continue;
      rows_[cells[0].substr(2)] = {std::atof(cells[1].c_str()), cells[3], cells[4]};
    }
  }
};

TEST_F(ServedMeasurementsTest, AReloadsGapAndPeakAreMeasured) {
  const testing::SimGpu gpu;
  EXPECT_EQ(Run(gpu, "reload"), 0) << text_;
  for (const std::string name : {"reload 16 MiB", "reload 64 MiB"}) {
    EXPECT_NE(Row(name + ": gap").note.find("median of 5"), std::string::npos) << text_;
    for (const char* state :
         {"STAGING", "HOLDING", "DRAINING", "CLOSING", "EXITING", "CONFIRMING", "ADMITTING"}) {
      EXPECT_GT(Row(absl::StrCat(name, ": in ", state)).figure, 0) << state;
    }
    // Nobody answers while the successor uploads.
    EXPECT_GE(Row(name + ": gap").figure, Row(name + ": in ADMITTING").figure);
    // The simulated machine's accounts are exact.
    EXPECT_DOUBLE_EQ(Row(name + ": peak device bytes / (model + context)").figure, 1) << text_;
    ExpectFact(name + ": no two generations hold device memory at once");
    ExpectFact(name + ": a front reads each generation's weights on the device");
    ExpectFact(name + ": every request is answered");
  }
}

TEST_F(ServedMeasurementsTest, ASizeThatDoesNotFitIsSkippedAndSaysWhy) {
  // This process's context and a worker's, the margin, and less than 64 MiB of weights.
  const testing::SimGpu gpu({.capacity_bytes = 800 * kMiB, .context_bytes = 256 * kMiB});
  EXPECT_EQ(Run(gpu, "reload"), 0) << text_;
  EXPECT_GT(Row("reload 16 MiB: gap").figure, 0);
  EXPECT_EQ(Row("reload 64 MiB").outcome, "skipped");
  EXPECT_NE(Row("reload 64 MiB").note.find("544 MiB free"), std::string::npos) << text_;
  EXPECT_FALSE(rows_.contains("reload 64 MiB: gap"));
}

TEST_F(ServedMeasurementsTest, AServerThatCannotStartIsAnErrorThatSaysWhy) {
  testing::SimGpu gpu;
  gpu.SetKnob("fail.cuStreamCreate", 2);
  EXPECT_EQ(Run(gpu, "reload"), 1);
  EXPECT_EQ(Row("reload 16 MiB").outcome, "error") << text_;
  EXPECT_NE(Row("reload 16 MiB").note.find("cuStreamCreate"), std::string::npos) << text_;
  EXPECT_EQ(Row("reload 64 MiB").outcome, "error") << text_;
}

TEST_F(ServedMeasurementsTest, RoundTripsAreMeasuredWithResultsOnBothSides) {
  const testing::SimGpu gpu;
  EXPECT_EQ(Run(gpu, "round_trip"), 0) << text_;
  for (const std::string name :
       {"round trip, native model, 4096 bytes", "round trip, dense model, one digit"}) {
    ExpectFact(name + ": results on the device are there, and those on the host");
    const double host = Row(name + ", results on the host").figure;
    const double device = Row(name + ", results on the device").figure;
    EXPECT_GT(host, 0);
    EXPECT_GT(device, 0);
    // Rows have four digits.
    EXPECT_NEAR(Row(name + ", device less host").figure, device - host, 1e-3 * (device + host));
  }
}

TEST_F(ServedMeasurementsTest, AServerEndsWithWhoMeasures) {
  const testing::SimGpu gpu;
  absl::StatusOr<ipc::ChildProcess> process = Start(gpu, "reload");
  ASSERT_TRUE(process.ok()) << process.status();
  ASSERT_TRUE(WaitFor([this] { return HasWorker(); }));
  ASSERT_TRUE(process->Kill(SIGKILL).ok());
  ASSERT_TRUE(process->Reap(absl::Minutes(1)).ok());
  EXPECT_TRUE(WaitFor([this] { return MarkedProcesses(mark_).empty(); }));
}

}  // namespace
}  // namespace baton::gpu_check

// The measuring program itself, started as tools/gpu-check starts it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "ipc/cuda/driver.h"
#include "ipc/process.h"
#include "ipc/unique_fd.h"

namespace baton::gpu_check {
namespace {

class GpuMeasureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Runs it; its exit code.
  int Run(std::vector<std::string> args) {
    const char* const programs = std::getenv("BATON_LIBEXEC_DIR");
    if (programs == nullptr) return ADD_FAILURE() << "run me with ctest", -1;
    args.insert(args.end(), {"--json", folder_ + "/t.json", "--markdown", folder_ + "/t.md"});
    auto process = ipc::SpawnProcess(
        {.executable = std::string(programs) + "/baton-gpu-measure", .args = args});
    if (!process.ok()) return ADD_FAILURE() << process.status(), -1;
    const auto end = process->Reap(absl::Minutes(9));
    if (!end.ok()) return ADD_FAILURE() << end.status(), -1;
    EXPECT_EQ(end->kind, ipc::ExitStatus::Kind::kExited) << ipc::ToString(*end);
    return end->value;
  }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  std::string Markdown() const {
    std::ifstream file(folder_ + "/t.md");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::string folder_;
};

TEST_F(GpuMeasureTest, RowsOfOthersMakeTheTable) {
  const std::string rows = Write("rows", "test: a\t3\tcases\t\tpassed\t\n");
  EXPECT_EQ(Run({"--no-measurements", "--rows", rows, "--head", "commit: abc"}), 0);
  EXPECT_NE(Markdown().find("| test: a | 3 cases |  | passed |"), std::string::npos) << Markdown();
  EXPECT_NE(Markdown().find("- commit: abc"), std::string::npos) << Markdown();
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/t.json"));
}

TEST_F(GpuMeasureTest, OneBadRowIsAFailure) {
  const std::string rows = Write("rows", "a\t\t\t\tpassed\t\nb\t\t\t\terror\tSIGSEGV\n");
  EXPECT_EQ(Run({"--no-measurements", "--rows", rows}), 1);
  EXPECT_NE(Markdown().find("1 of 2 rows are not good"), std::string::npos) << Markdown();
}

TEST_F(GpuMeasureTest, NoRowsAreAFailure) {
  EXPECT_EQ(Run({"--no-measurements"}), 1);
  EXPECT_EQ(Run({"--no-measurements", "--rows", folder_ + "/missing"}), 1);
}

TEST_F(GpuMeasureTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Run({"--only", "nonsense"}), 2);
  EXPECT_EQ(Run({"--nonsense"}), 2);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/t.json"));
}

TEST_F(GpuMeasureTest, AMeasurementThatFailsIsARow) {
  if (ipc::cuda::Driver::Get().ok()) GTEST_SKIP() << "there is a driver";
  EXPECT_EQ(Run({"--only", "machine"}), 1);
  EXPECT_NE(Markdown().find("| machine |"), std::string::npos) << Markdown();
  EXPECT_NE(Markdown().find("no NVIDIA driver"), std::string::npos) << Markdown();
  EXPECT_EQ(Run({"--probe"}), 3);
}

}  // namespace
}  // namespace baton::gpu_check

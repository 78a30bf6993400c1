// Checks as text, between processes, and those of the host.
#include "tools/shmctl/doctor_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/system/test_server.h"
#include "tools/shmctl/gpu_probe.h"
#include "tools/shmctl/host_checks.h"

namespace baton::shmctl {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Level = Check::Level;

TEST(DoctorCheckTest, ARow) {
  EXPECT_EQ(CheckRow({Level::kOk, "memfd", "there", ""}), "ok    memfd             there\n");
  EXPECT_EQ(CheckRow({Level::kFail, "a name that is longer", "a\nb", "do this"}),
            "FAIL  a name that is longera b; do this\n");
  EXPECT_EQ(CheckRow({Level::kWarn, "x", "\033[31m", ""}), "warn  x                 ?[31m\n");
}

TEST(DoctorCheckTest, BetweenProcesses) {
  const std::vector<Check> checks = {{Level::kWarn, "a", "with\ttab", ""},
                                     {Level::kFail, "b", "", "line\nend"}};
  std::string text = "a driver's own words\n";
  for (const Check& check : checks) text += EncodeCheck(check);
  text += "ok\tcut\toff";
  const std::vector<Check> read = DecodeChecks(text);
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].level, Level::kWarn);
  EXPECT_EQ(read[0].found, "with tab");
  EXPECT_EQ(read[1].level, Level::kFail);
  EXPECT_EQ(read[1].name, "b");
  EXPECT_EQ(read[1].found, "");
  EXPECT_EQ(read[1].remedy, "line end");
  EXPECT_TRUE(DecodeChecks("").empty());
  EXPECT_TRUE(DecodeChecks("well\ta\tb\tc\n").empty()) << "no such level";
}

TEST(DoctorCheckTest, EveryNameFitsItsColumn) {
  for (const GpuProbe& probe : GpuProbes()) {
    ASSERT_FALSE(probe.checks.empty());
    for (const char* name : probe.checks) {
      EXPECT_THAT(CheckRow({Level::kOk, name, "|", ""}), EndsWith("  |\n")) << name;
    }
  }
}

TEST(HostChecksTest, SharedMemoryThatIsNotThereFails) {
  const testing::TempDirectory temp;
  EXPECT_EQ(CheckSharedMemory(temp.path() + "/nothing").level, Level::kFail);
  EXPECT_EQ(CheckSharedMemory("/proc").level, Level::kFail) << "nothing can be created there";
  EXPECT_THAT(CheckSharedMemory("/dev/shm").found, HasSubstr(" free"));
}

TEST(HostChecksTest, TheRunDirectoryIsPrivate) {
  const testing::TempDirectory temp;
  const std::string path = temp.path() + "/run";
  const Check made = CheckRunDirectory(path);
  EXPECT_EQ(made.level, Level::kOk) << made.found;
  EXPECT_THAT(made.found, StartsWith(path));
  ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
  EXPECT_EQ(CheckRunDirectory(path).level, Level::kFail);
}

TEST(HostChecksTest, LimitsThatAreLowAreTold) {
  EXPECT_EQ(CheckOpenFiles({256, 4096}).level, Level::kOk);
  EXPECT_EQ(CheckOpenFiles({RLIM_INFINITY, RLIM_INFINITY}).level, Level::kOk);
  const Check few = CheckOpenFiles({256, 1023});
  EXPECT_EQ(few.level, Level::kWarn);
  EXPECT_THAT(few.remedy, HasSubstr("ulimit"));
  EXPECT_EQ(CheckLockedMemory({0, 65536}, /*needs_gpu=*/false).level, Level::kOk);
  EXPECT_EQ(CheckLockedMemory({0, 65536}, /*needs_gpu=*/true).level, Level::kWarn);
  EXPECT_EQ(CheckLockedMemory({0, RLIM_INFINITY}, /*needs_gpu=*/true).level, Level::kOk);
}

// This very suite needs all of it.
TEST(HostChecksTest, TheKernelHasWhatBatonNeeds) {
  for (const Check& check : CheckKernel()) {
    EXPECT_NE(check.level, Level::kFail) << check.name << ": " << check.found;
  }
}

}  // namespace
}  // namespace baton::shmctl

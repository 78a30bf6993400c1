// doctor: what it says where there is no driver, one that hangs or one that
// breaks. The driver is a test's own, so that the machine's does not matter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>

#include "tests/tools/shmctl/json_reader.h"
#include "tests/tools/shmctl/shmctl_process.h"

namespace baton::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

class DoctorTest : public ShmctlTest {
 protected:
  DoctorTest() { ::setenv("LD_LIBRARY_PATH", std::getenv("BATON_BROKEN_DRIVER"), 1); }
  ~DoctorTest() override {
    for (const char* name : {"LD_LIBRARY_PATH", "BATON_TEST_DRIVER"}) ::unsetenv(name);
  }
  static void Driver(const char* script) { ::setenv("BATON_TEST_DRIVER", script, 1); }
};

TEST_F(DoctorTest, NoGpuIsNoFailure) {
  const ShmctlResult result = Run({"doctor"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, ContainsRegex("(^|\n)warn  nvidia driver .*lacks cuInit"));
  EXPECT_THAT(result.out,
              ContainsRegex("\nok    pid visibility .*not tested: there is no GPU to be used"));
  EXPECT_THAT(result.out, Not(HasSubstr("FAIL")));
}

TEST_F(DoctorTest, ALineACheck) {
  std::istringstream lines(Run({"doctor"}).out);
  std::set<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_THAT(line, MatchesRegex("(ok   |warn |FAIL ) [a-zA-Z_/].*"));
    names.insert(line.substr(6, line.find("  ", 6) - 6));
  }
  for (const char* name :
       {"nvidia driver", "gpu", "nvml", "kernel module", "mig", "pid visibility", "cuda ipc",
        "vmm descriptors", "/dev/shm", "run directory", "open files", "locked memory", "kernel",
        "memfd", "F_ADD_SEALS", "pidfd", "futex_waitv", "subreaper"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST_F(DoctorTest, AGpuThatIsAskedForHasToBeThere) {
  const ShmctlResult result = Run({"doctor", "--device", "cuda:0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, ContainsRegex("(^|\n)FAIL  nvidia driver "));
  EXPECT_THAT(result.err, HasSubstr("device cuda:0 cannot be served here: nvidia driver"));
}

TEST_F(DoctorTest, ADriverThatHangsIsReportedAndLeftNowhere) {
  Driver("hang");
  ShmctlResult result = Run({"doctor", "--timeout", "0.2"});
  EXPECT_EQ(result.exit_code, 0) << result.out;
  EXPECT_THAT(result.out, ContainsRegex("(^|\n)warn  nvidia driver .*no answer within 200ms"));
  result = Run({"doctor", "--timeout", "0.2", "--device", "cuda:0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, ContainsRegex("(^|\n)FAIL  nvidia driver .*no answer within 200ms"));
  EXPECT_THAT(result.out, HasSubstr("\nok    memfd")) << "the rest is looked at all the same";
  EXPECT_THAT(MarkedProcesses(mark_), ::testing::IsEmpty());
}

TEST_F(DoctorTest, ADriverThatTakesItsProcessDownIsReported) {
  Driver("abort");
  const ShmctlResult result = Run({"doctor", "--device", "cuda:0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, ContainsRegex("FAIL  nvidia driver .*signal 6"));
}

TEST_F(DoctorTest, ARunDirectoryThatIsOpenToOthersFails) {
  std::filesystem::create_directory(run_directory_);
  ASSERT_EQ(::chmod(run_directory_.c_str(), 0755), 0);
  const ShmctlResult result = Run({"doctor"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("FAIL  run directory"));
  EXPECT_THAT(result.err, HasSubstr("device host cannot be served here: run directory"));
}

TEST_F(DoctorTest, JsonSaysTheSame) {
  const ShmctlResult result = Run({"doctor", "--json", "--device", "cuda:1"});
  EXPECT_EQ(result.exit_code, 1);
  const JsonReader report(result.out);
  EXPECT_EQ(report.Keys(), (std::set<std::string>{"checks", "failed"}));
  EXPECT_EQ(report["failed"].Number(), 1);
  ASSERT_GT(report["checks"].size(), 10u);
  const JsonReader first = report["checks"][0];
  EXPECT_EQ(first.Keys(), (std::set<std::string>{"level", "name", "found", "remedy"}));
  EXPECT_EQ(first["level"].Text(), "FAIL");
  EXPECT_EQ(first["name"].Text(), "nvidia driver");
}

}  // namespace
}  // namespace baton::testing

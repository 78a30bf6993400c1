// A part of the measurements on whatever GPU is here.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "absl/time/time.h"

#include "ipc/cuda/driver.h"
#include "ipc/process.h"

namespace baton::gpu_check {
namespace {

class MeasureGpuTest : public ::testing::TestWithParam<const char*> {};

TEST_P(MeasureGpuTest, NothingFailsOrContradicts) {
  if (const auto driver = ipc::cuda::Driver::Get(); !driver.ok()) {
    GTEST_SKIP() << driver.status();
  }
  const char* const programs = std::getenv("BATON_LIBEXEC_DIR");
  ASSERT_NE(programs, nullptr) << "run me with ctest";
  // Its table is on the standard output.
  auto process = ipc::SpawnProcess({.executable = std::string(programs) + "/baton-gpu-measure",
                                    .args = {"--small", "--only", GetParam()}});
  ASSERT_TRUE(process.ok()) << process.status();
  const auto end = process->Reap(absl::Minutes(4));
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_TRUE(end->clean()) << ipc::ToString(*end);
}

INSTANTIATE_TEST_SUITE_P(All, MeasureGpuTest,
                         ::testing::Values("machine", "ipc_refusals", "vmm_cost", "round_trip",
                                           "reload"));

}  // namespace
}  // namespace baton::gpu_check

// The fixture of tests that run kernels on the machine that is linked in.
#ifndef BATON_TESTS_KERNELS_ON_MACHINE_H_
#define BATON_TESTS_KERNELS_ON_MACHINE_H_

#include <cstdlib>

#include "gtest/gtest.h"

#include "tests/kernels/kernel_machine.h"

namespace baton::kernels::cuda {

class OnMachine : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto machine = TestMachine();
    if (!machine.ok()) {
      ASSERT_TRUE(absl::IsUnavailable(machine.status()) &&
                  std::getenv("BATON_REQUIRE_CUDA_DRIVER") == nullptr)
          << machine.status();
      GTEST_SKIP() << machine.status();
    }
    machine_ = *machine;
  }
  void Finish(const absl::Status& launched) {
    ASSERT_TRUE(launched.ok()) << launched;
    const absl::Status finished = machine_->Finish();
    ASSERT_TRUE(finished.ok()) << finished;
  }

  KernelMachine* machine_ = nullptr;
};

}  // namespace baton::kernels::cuda

#endif  // BATON_TESTS_KERNELS_ON_MACHINE_H_

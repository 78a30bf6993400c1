// Linked into a test, it puts the test's process on a simulated machine of its
// own before anything looks for a driver.
#include <gtest/gtest.h>

#include <memory>

#include "tests/simgpu/sim_gpu.h"

namespace baton::testing {
namespace {

class OnSimulatedMachine final : public ::testing::Environment {
 public:
  void SetUp() override {
    gpu_ = std::make_unique<SimGpu>();
    gpu_->UseInThisProcess();
  }
  void TearDown() override { gpu_.reset(); }

 private:
  std::unique_ptr<SimGpu> gpu_;
};

[[maybe_unused]] const auto* const environment =
    ::testing::AddGlobalTestEnvironment(new OnSimulatedMachine);

}  // namespace
}  // namespace baton::testing

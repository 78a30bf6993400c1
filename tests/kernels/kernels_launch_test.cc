// What the class Kernels itself decides, on the driver that this process finds.
#include <cstdlib>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/kernels.h"

namespace baton::kernels::cuda {
namespace {

using ::testing::HasSubstr;

class KernelsLaunch : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto driver = ipc::cuda::Driver::Get();
    if (!driver.ok()) {
      if (std::getenv("BATON_REQUIRE_CUDA_DRIVER") != nullptr) FAIL() << driver.status();
      GTEST_SKIP() << driver.status();
    }
    driver_ = *driver;
    ASSERT_EQ((*driver_)->CtxGetCurrent(&found_), ipc::cuda::kSuccess);
    ASSERT_EQ((*driver_)->DeviceGet(&device_, 0), ipc::cuda::kSuccess);
    ASSERT_EQ((*driver_)->DevicePrimaryCtxRetain(&context_, device_), ipc::cuda::kSuccess);
  }
  void TearDown() override {
    if (context_ == nullptr) return;
    (*driver_)->CtxSetCurrent(found_);
    (*driver_)->DevicePrimaryCtxRelease(device_);
  }

  const ipc::cuda::Driver* driver_ = nullptr;
  ipc::cuda::DeviceOrdinal device_ = 0;
  ipc::cuda::Context context_ = nullptr;
  ipc::cuda::Context found_ = nullptr;  // of the tests before, given back to those after
};

TEST_F(KernelsLaunch, LoadNeedsACurrentContext) {
  ASSERT_EQ((*driver_)->CtxSetCurrent(nullptr), ipc::cuda::kSuccess);
  const auto kernels = Kernels::Load(*driver_);
  ASSERT_TRUE(absl::IsFailedPrecondition(kernels.status())) << kernels.status();
  EXPECT_THAT(std::string(kernels.status().message()), HasSubstr("current context"));
}

TEST_F(KernelsLaunch, RefusesWhatNoKernelTakes) {
  ASSERT_EQ((*driver_)->CtxSetCurrent(context_), ipc::cuda::kSuccess);
  const auto loaded = Kernels::Load(*driver_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Kernels& kernels = **loaded;
  const auto refused = [](const absl::Status& status) {
    return absl::IsInvalidArgument(status) && status.message().find("baton_") == 0;
  };
  EXPECT_TRUE(refused(kernels.Cast({.input = 258,
                                    .output = 512,
                                    .count = 1,
                                    .input_type = FloatType::kFloat32,
                                    .output_type = FloatType::kFloat16},
                                   nullptr)));
  EXPECT_TRUE(refused(kernels.Cast({.input = 256,
                                    .output = 512,
                                    .count = 1,
                                    .input_type = static_cast<FloatType>(3),
                                    .output_type = FloatType::kFloat16},
                                   nullptr)));
  EXPECT_TRUE(refused(kernels.Digest({.input = 256, .bytes = 8, .result = 516}, nullptr)));
  DenseArgs dense{.input = 256,
                  .weights = 260,
                  .bias = 256,
                  .output = 256,
                  .rows = 1,
                  .inputs = 1,
                  .outputs = 1,
                  .activation = Activation::kNone};
  EXPECT_TRUE(refused(kernels.Dense(dense, nullptr)));
  dense.weights = 256;
  dense.outputs = uint64_t{1} << 40;
  EXPECT_TRUE(refused(kernels.Dense(dense, nullptr)));
  dense.outputs = 1;
  dense.activation = static_cast<Activation>(2);
  EXPECT_TRUE(refused(kernels.Dense(dense, nullptr)));
  EXPECT_TRUE(refused(kernels.SoftmaxRows({.values = 256, .rows = 1, .columns = 0}, nullptr)));
  EXPECT_TRUE(refused(kernels.SoftmaxRows({.values = 257, .rows = 1, .columns = 1}, nullptr)));
}

TEST_F(KernelsLaunch, NothingIsLaunchedForNothing) {
  ASSERT_EQ((*driver_)->CtxSetCurrent(context_), ipc::cuda::kSuccess);
  const auto loaded = Kernels::Load(*driver_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Kernels& kernels = **loaded;
  // Addresses that would fault.
  EXPECT_TRUE(kernels.Pack({}, 8, 8, nullptr).ok());
  const DeviceRows none[] = {{.address = 8, .rows = 0}};
  EXPECT_TRUE(kernels.Unpack(8, 8, none, nullptr).ok());
  EXPECT_TRUE(kernels.Scrub(8, 0, nullptr).ok());
  EXPECT_TRUE(kernels
                  .Cast({.input = 8,
                         .output = 8,
                         .count = 0,
                         .input_type = FloatType::kFloat32,
                         .output_type = FloatType::kFloat16},
                        nullptr)
                  .ok());
  EXPECT_TRUE(kernels.SoftmaxRows({.values = 8, .rows = 0, .columns = 4}, nullptr).ok());
  EXPECT_EQ((*driver_)->CtxSynchronize(), ipc::cuda::kSuccess);
}

}  // namespace
}  // namespace baton::kernels::cuda

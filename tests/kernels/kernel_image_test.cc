#include "kernels/cuda/kernel_image.h"

#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "kernels/cuda/reference_kernels.h"

namespace baton::kernels::cuda {
namespace {

using ::testing::HasSubstr;

std::string_view ImageText() {
  const auto image = KernelImage();
  return {reinterpret_cast<const char*>(image.data()), image.size()};
}

// BATON_EXPECT_KERNEL_IMAGE: whether CMake found nvcc.
TEST(KernelImageTest, IsThereWhereNvccIs) {
  EXPECT_EQ(KernelImageBuilt(), BATON_EXPECT_KERNEL_IMAGE != 0);
  EXPECT_FALSE(KernelImage().empty());
}

TEST(KernelImageTest, HoldsEveryKernelByName) {
  for (const ReferenceKernel& kernel : ReferenceKernels()) {
    const bool found = ImageText().find(kernel.name) != std::string_view::npos;
    EXPECT_EQ(found, KernelImageBuilt()) << kernel.name;
  }
}

TEST(KernelImageTest, IsAFatBinaryOrAMarker) {
  if (KernelImageBuilt()) {
    EXPECT_EQ(ImageText().substr(0, 4), "\x50\xed\x55\xba");
    // PTX of the last architecture, for GPUs later than all of them.
    EXPECT_NE(ImageText().find(".version"), std::string_view::npos);
  } else {
    EXPECT_THAT(std::string(ImageText()), HasSubstr("without nvcc"));
    EXPECT_EQ(ImageText().data()[ImageText().size()], '\0');
  }
}

TEST(KernelImageErrorTest, SaysWhatToDo) {
  using ipc::cuda::kInvalidContext;
  using ipc::cuda::kInvalidImage;
  using ipc::cuda::kLaunchFailure;
  using ipc::cuda::kNoBinaryForGpu;
  using ipc::cuda::kOutOfMemory;
  using ipc::cuda::kSuccess;
  EXPECT_TRUE(KernelImageError(kSuccess, "", false).ok());

  const absl::Status unbuilt = KernelImageError(kInvalidImage, "driver's text", false);
  EXPECT_TRUE(absl::IsFailedPrecondition(unbuilt));
  EXPECT_THAT(std::string(unbuilt.message()), HasSubstr("built without nvcc"));
  EXPECT_THAT(std::string(unbuilt.message()), HasSubstr("driver's text"));

  const absl::Status other_gpu = KernelImageError(kNoBinaryForGpu, "driver's text", true);
  EXPECT_TRUE(absl::IsFailedPrecondition(other_gpu));
  EXPECT_THAT(std::string(other_gpu.message()), HasSubstr("no code for this GPU"));
  EXPECT_THAT(std::string(other_gpu.message()), HasSubstr("BATON_CUDA_ARCHITECTURES"));

  // What is not the image's fault is not blamed on it.
  const absl::Status no_context = KernelImageError(kInvalidContext, "", false);
  EXPECT_THAT(std::string(no_context.message()), HasSubstr("current context"));
  EXPECT_TRUE(absl::IsResourceExhausted(KernelImageError(kOutOfMemory, "", true)));
  EXPECT_TRUE(absl::IsInternal(KernelImageError(kLaunchFailure, "", true)));
}

}  // namespace
}  // namespace baton::kernels::cuda

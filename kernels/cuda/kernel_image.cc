#include "kernels/cuda/kernel_image.h"

#include "absl/strings/str_cat.h"

// Set by CMake where nvcc is: the file with the image, and what it has code for.
#ifdef BATON_CUDA_IMAGE

// Aligned as the driver's loader reads it. The zero after the end is for a
// driver that takes an image it does not know for text.
__asm__(
    ".pushsection .rodata\n"
    ".balign 64\n"
    "baton_cuda_image_begin:\n"
    ".incbin \"" BATON_CUDA_IMAGE
    "\"\n"
    "baton_cuda_image_end:\n"
    ".byte 0\n"
    ".popsection\n");

#else

#define BATON_CUDA_ARCHITECTURES "none"

// In the syntax of PTX, where it is an empty comment: a real driver looks into
// it, finds no module, and says so.
__asm__(
    ".pushsection .rodata\n"
    ".balign 64\n"
    "baton_cuda_image_begin:\n"
    ".ascii \"// Baton was built without nvcc: no kernels\\n\"\n"
    "baton_cuda_image_end:\n"
    ".byte 0\n"
    ".popsection\n");

#endif

extern "C" {
extern const std::byte baton_cuda_image_begin[] __attribute__((visibility("hidden")));
extern const std::byte baton_cuda_image_end[] __attribute__((visibility("hidden")));
}

namespace baton::kernels::cuda {

std::span<const std::byte> KernelImage() { return {baton_cuda_image_begin, baton_cuda_image_end}; }

bool KernelImageBuilt() {
#ifdef BATON_CUDA_IMAGE
  return true;
#else
  return false;
#endif
}

absl::Status KernelImageError(ipc::cuda::Result result, const std::string& what, bool built) {
  if (result == ipc::cuda::kSuccess) return absl::OkStatus();
  switch (result) {
    case ipc::cuda::kNotInitialized:
    case ipc::cuda::kDeinitialized:
    case ipc::cuda::kInvalidContext:
      return absl::FailedPreconditionError(
          absl::StrCat("cannot load the CUDA kernels without a current context (", what, ")"));
    case ipc::cuda::kOutOfMemory:
      return absl::ResourceExhaustedError(
          absl::StrCat("no device memory for the CUDA kernels (", what, ")"));
    default:
      break;
  }
  if (!built) {
    return absl::FailedPreconditionError(
        absl::StrCat("Baton was built without nvcc and has no CUDA kernels (", what,
                     "). Build it where the CUDA toolkit is, or use device: host"));
  }
  switch (result) {
    case ipc::cuda::kInvalidImage:
    case ipc::cuda::kNoBinaryForGpu:
    case ipc::cuda::kUnsupportedPtxVersion:
    case ipc::cuda::kNotFound:
      return absl::FailedPreconditionError(absl::StrCat(
          "the CUDA kernels have no code for this GPU and driver (", what, "): they are built for ",
          BATON_CUDA_ARCHITECTURES,
          ". Build Baton with -DBATON_CUDA_ARCHITECTURES=<compute capability, such as 90>, or "
          "upgrade the driver"));
    default:
      return absl::InternalError(absl::StrCat("cannot load the CUDA kernels: ", what));
  }
}

}  // namespace baton::kernels::cuda

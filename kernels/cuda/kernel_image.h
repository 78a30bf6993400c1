// The compiled kernels, which are part of this library: a fat binary with code
// for each GPU of BATON_CUDA_ARCHITECTURES and PTX for later ones. Where Baton
// was built without nvcc there is a marker in its place that no driver loads.
//
// Thread safety: pure functions.
#ifndef BATON_KERNELS_CUDA_KERNEL_IMAGE_H_
#define BATON_KERNELS_CUDA_KERNEL_IMAGE_H_

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/status.h"

#include "ipc/cuda/driver_abi.h"

namespace baton::kernels::cuda {

// What cuModuleLoadData takes; never empty. Lives as long as the process.
std::span<const std::byte> KernelImage();

// Whether it has code. A simulated driver takes the marker as well.
bool KernelImageBuilt();

// Why a driver refused an image, as an error that says what to do: OK for
// kSuccess. `what` is the driver's own text of it, and `built` is
// KernelImageBuilt().
absl::Status KernelImageError(ipc::cuda::Result result, const std::string& what, bool built);

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_KERNEL_IMAGE_H_

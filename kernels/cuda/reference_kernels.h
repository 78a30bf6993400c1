// The CUDA kernels' CPU references under the kernels' names and with their
// arguments: what a simulated device runs in place of a launch.
//
// Thread safety: pure functions; they touch only memory that the caller's
// translation gives them.
#ifndef BATON_KERNELS_CUDA_REFERENCE_KERNELS_H_
#define BATON_KERNELS_CUDA_REFERENCE_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "kernels/cuda/grid.h"

namespace baton::kernels::cuda {

enum class Access { kRead, kWrite };

// Where the range of device memory lies on the host; nullptr where any of it is
// no device memory, or may not be accessed so. Ranges are never empty, and what
// is asked for with kRead is not written.
using AddressMap = std::function<std::byte*(uint64_t address, uint64_t bytes, Access access)>;

struct ReferenceKernel {
  const char* name;   // as cuModuleGetFunction is asked for it
  size_t args_bytes;  // of its struct, the only parameter of a launch
  // `args` is the kernel's struct of kernel_args.h (the first of the launch's
  // parameters). False, and what was written is undefined, where a device would
  // report a fault: an address out of range or not aligned, or a grid that the
  // kernel cannot work with.
  bool (*run)(const void* args, const AddressMap& memory, const Grid& grid);
};

// Every kernel of the image.
std::span<const ReferenceKernel> ReferenceKernels();

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_REFERENCE_KERNELS_H_

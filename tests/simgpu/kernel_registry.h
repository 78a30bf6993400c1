// Kernels of the simulated GPU: each is a function on the host, found by the
// name that cuModuleGetFunction is given. A kernel takes exactly one struct by
// value, so `parameters[0]` of cuLaunchKernel points to one.
//
// The table of kernel_table.cc is in the library. A test adds its own with the
// knob kernel_library=<path of a shared object> that exports
// BatonSimgpuKernels.
//
// Thread safety: bodies run one at a time in a process.
#ifndef BATON_TESTS_SIMGPU_KERNEL_REGISTRY_H_
#define BATON_TESTS_SIMGPU_KERNEL_REGISTRY_H_

#include <cstddef>

#include "ipc/cuda/driver_abi.h"

namespace baton::ipc::cuda::sim {

// Device addresses for a kernel's body. A range that is not all mapped for that
// access is nullptr, and the launch then ends as CUDA_ERROR_ILLEGAL_ADDRESS
// wherever the stream is next waited for; the body returns as soon as it sees it.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  template <typename T>
  const T* Read(DevicePtr address, size_t count) {
    return static_cast<const T*>(Translate(address, count * sizeof(T), false));
  }
  template <typename T>
  T* Write(DevicePtr address, size_t count) {
    return static_cast<T*>(Translate(address, count * sizeof(T), true));
  }

 private:
  virtual void* Translate(DevicePtr address, size_t bytes, bool to_write) = 0;
};

struct LaunchGrid {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
};

// `args` is a copy of the launch's struct, made at the launch.
using KernelBody = void (*)(const void* args, DeviceMemory& memory, const LaunchGrid& grid);

struct KernelEntry {
  const char* name;  // as in the module
  size_t args_bytes;
  KernelBody body;
};

struct KernelTable {
  const KernelEntry* entries;
  size_t count;
};

// What is in the library.
KernelTable BuiltInKernels();

// What a kernel_library exports:
//   extern "C" KernelTable BatonSimgpuKernels();
using KernelLibraryFunction = KernelTable (*)();
inline constexpr char kKernelLibrarySymbol[] = "BatonSimgpuKernels";

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_KERNEL_REGISTRY_H_

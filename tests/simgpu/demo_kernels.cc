// A kernel_library.
#include "tests/simgpu/demo_kernels.h"

#include <algorithm>
#include <iterator>

#include "tests/simgpu/kernel_registry.h"

namespace baton::testing {
namespace {

using ipc::cuda::sim::DeviceMemory;
using ipc::cuda::sim::KernelEntry;
using ipc::cuda::sim::KernelTable;
using ipc::cuda::sim::LaunchGrid;

void Add(const void* args, DeviceMemory& memory, const LaunchGrid&) {
  const auto& add = *static_cast<const DemoAddArgs*>(args);
  auto* const numbers = memory.Write<int32_t>(add.numbers, add.count);
  if (numbers == nullptr) return;
  std::for_each(numbers, numbers + add.count, [&](int32_t& number) { number += add.summand; });
}

void Fill(const void* args, DeviceMemory& memory, const LaunchGrid&) {
  const auto& fill = *static_cast<const DemoFillArgs*>(args);
  auto* const bytes = memory.Write<uint8_t>(fill.bytes, fill.count);
  if (bytes != nullptr) std::fill_n(bytes, fill.count, fill.value);
}

constexpr KernelEntry kKernels[] = {
    {"baton_demo_add", sizeof(DemoAddArgs), &Add},
    {"baton_demo_fill", sizeof(DemoFillArgs), &Fill},
};

}  // namespace

extern "C" __attribute__((visibility("default"))) KernelTable BatonSimgpuKernels() {
  return {.entries = kKernels, .count = std::size(kKernels)};
}

}  // namespace baton::testing

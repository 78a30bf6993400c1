// The kernels that every process on a simulated machine finds: Baton's own, by
// their CPU references.
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cuda/reference_kernels.h"
#include "tests/simgpu/kernel_registry.h"

namespace baton::ipc::cuda::sim {
namespace {

namespace reference = kernels::cuda;

// More than there are; a body has no other way to know which it is.
constexpr size_t kMaxKernels = 16;

void RunReference(size_t index, const void* args, DeviceMemory& memory, const LaunchGrid& launch) {
  const reference::Grid grid{.x = launch.grid[0],
                             .y = launch.grid[1],
                             .z = launch.grid[2],
                             .block_x = launch.block[0],
                             .block_y = launch.block[1],
                             .block_z = launch.block[2]};
  const reference::AddressMap map = [&memory](uint64_t address, uint64_t bytes,
                                              reference::Access access) {
    return access == reference::Access::kWrite
               ? memory.Write<std::byte>(address, bytes)
               : const_cast<std::byte*>(memory.Read<std::byte>(address, bytes));
  };
  // What a device would report as a fault ends as one here, too.
  if (!reference::ReferenceKernels()[index].run(args, map, grid)) {
    static_cast<void>(memory.Read<std::byte>(0, 1));
  }
}

template <size_t kIndex>
void Body(const void* args, DeviceMemory& memory, const LaunchGrid& grid) {
  RunReference(kIndex, args, memory, grid);
}

template <size_t... kIndices>
std::array<KernelEntry, sizeof...(kIndices)> MakeEntries(std::index_sequence<kIndices...>) {
  std::array<KernelEntry, sizeof...(kIndices)> entries{};
  const auto kernels = reference::ReferenceKernels();
  const KernelBody bodies[] = {&Body<kIndices>...};
  for (size_t i = 0; i < kernels.size() && i < entries.size(); ++i) {
    entries[i] = {.name = kernels[i].name, .args_bytes = kernels[i].args_bytes, .body = bodies[i]};
  }
  return entries;
}

}  // namespace

KernelTable BuiltInKernels() {
  static const auto entries = MakeEntries(std::make_index_sequence<kMaxKernels>());
  const size_t count = reference::ReferenceKernels().size();
  return {.entries = entries.data(), .count = count < kMaxKernels ? count : kMaxKernels};
}

}  // namespace baton::ipc::cuda::sim

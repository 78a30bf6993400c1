#include "ipc/open_device.h"

#include <unistd.h>

#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/cuda_device.h"
#include "ipc/cuda/cuda_import.h"
#include "ipc/memory_file.h"
#include "ipc/process.h"

namespace baton::ipc {

absl::StatusOr<DeviceName> ParseDeviceName(const std::string& name) {
  constexpr std::string_view kPrefix = "cuda:";
  constexpr uint32_t kMaxOrdinal = 1023;
  if (name == "host") return DeviceName{};
  DeviceName parsed{.kind = DeviceName::Kind::kCuda, .ordinal = 0};
  if (name.starts_with(kPrefix) && name.size() > kPrefix.size()) {
    const char* const end = name.data() + name.size();
    const auto result = std::from_chars(name.data() + kPrefix.size(), end, parsed.ordinal);
    if (result.ec == std::errc() && result.ptr == end && parsed.ordinal <= kMaxOrdinal) {
      return parsed;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("there is no device '", name, "': write host, or cuda:0, cuda:1, ..."));
}

absl::StatusOr<DeviceProfile> ProbeDevice(const DeviceOptions& options) {
  const absl::StatusOr<DeviceName> name = ParseDeviceName(options.name);
  if (!name.ok()) return name.status();
  if (name->kind == DeviceName::Kind::kHost) {
    return DeviceProfile{.granularity_bytes = options.huge_pages ? HugePageBytes() : 1};
  }
  const absl::StatusOr<cuda::GpuInfo> gpu = cuda::DescribeGpu(name->ordinal);
  if (!gpu.ok()) return gpu.status();
  const absl::StatusOr<cuda::Transport> transport = cuda::ChooseTransport(*gpu, options.transport);
  if (!transport.ok()) return transport.status();
  return DeviceProfile{.total_bytes = gpu->total_bytes, .granularity_bytes = cuda::kSlabBytes};
}

absl::StatusOr<std::optional<ArenaExport>> AnnounceArena(const DeviceOptions& options,
                                                         uint64_t bytes, uint64_t generation) {
  const absl::StatusOr<DeviceName> name = ParseDeviceName(options.name);
  if (!name.ok()) return name.status();
  if (name->kind == DeviceName::Kind::kHost) return std::nullopt;
  const absl::StatusOr<cuda::GpuInfo> gpu = cuda::DescribeGpu(name->ordinal);
  if (!gpu.ok()) return gpu.status();
  const absl::StatusOr<cuda::Transport> transport = cuda::ChooseTransport(*gpu, options.transport);
  if (!transport.ok()) return transport.status();
  const absl::StatusOr<ProcessIdentity> self = ProcessIdentity::Of(::getpid());
  if (!self.ok()) return self.status();
  const uint64_t slab = cuda::RoundUpToSlabs(bytes);
  ArenaExport arena;
  arena.bytes = slab;
  arena.generation = generation;
  arena.token = cuda::EncodeArenaToken({.transport = *transport,
                                        .handle = std::nullopt,
                                        .base_offset = 0,
                                        .bytes = slab,
                                        .device_uuid = gpu->uuid,
                                        .ordinal = gpu->ordinal,
                                        .generation = generation,
                                        .owner = *self});
  return arena;
}

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(const DeviceOptions& options,
                                                   uint64_t capacity_bytes) {
  const absl::StatusOr<DeviceName> name = ParseDeviceName(options.name);
  if (!name.ok()) return name.status();
  if (name->kind == DeviceName::Kind::kHost) {
    return CreateHostDevice(capacity_bytes, options.huge_pages);
  }
  const absl::StatusOr<cuda::GpuInfo> gpu = cuda::DescribeGpu(name->ordinal);
  if (!gpu.ok()) return gpu.status();
  return cuda::CudaDevice::Open(
      *gpu, {.capacity_bytes = capacity_bytes, .transport = options.transport, .upload = {}});
}

absl::StatusOr<std::unique_ptr<ImportedArena>> ImportArena(ArenaExport arena) {
  if (arena.token.empty()) return ImportHostArena(std::move(arena));
  return cuda::ImportCudaArena(std::move(arena));
}

}  // namespace baton::ipc

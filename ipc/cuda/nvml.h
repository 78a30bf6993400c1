// NVML of this process: what the driver says of a GPU without a context on it.
//
// Every call may hang for as long as the driver likes (D state): only processes
// that somebody can do without call it, baton-confirm and the checks of
// `shmctl doctor`.
//
// Thread safety: any thread.
#ifndef BATON_IPC_CUDA_NVML_H_
#define BATON_IPC_CUDA_NVML_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/cuda/nvml_abi.h"

namespace baton::ipc::cuda {

// "GPU-8f7c0d5e-...": how NVML and nvidia-smi write a device's UUID.
std::string UuidText(const Uuid& uuid);

class Nvml {
 public:
  struct Memory {
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;
  };
  struct ProcessUse {
    pid_t pid = 0;
    std::optional<uint64_t> bytes;  // nullopt: NVML does not say
  };

  // Loads libnvidia-ml.so.1 and initialises it; the first answer holds for the
  // life of the process. NOT_FOUND: no library; FAILED_PRECONDITION: one that
  // does not work here. Each says what to do.
  static absl::StatusOr<const Nvml*> Get();

  const NvmlTable* operator->() const { return &table_; }

  absl::StatusOr<unsigned> DeviceCount() const;
  absl::StatusOr<NvmlDevice> DeviceAt(unsigned index) const;
  absl::StatusOr<NvmlDevice> Find(const Uuid& uuid) const;
  absl::StatusOr<std::string> UuidOf(NvmlDevice device) const;
  absl::StatusOr<Memory> MemoryOf(NvmlDevice device) const;
  // Processes with a context on the device, as far as this process may see
  // them: those of other pid namespaces are left out without a word, so that
  // somebody is not in it proves nothing by itself.
  absl::StatusOr<std::vector<ProcessUse>> ProcessesOf(NvmlDevice device) const;
  // Whether the device is cut into MIG instances; false where it cannot be.
  absl::StatusOr<bool> MigEnabled(NvmlDevice device) const;
  absl::StatusOr<std::string> DriverVersion() const;

  absl::Status ToStatus(NvmlResult result, std::string_view what) const;

 private:
  Nvml() = default;
  static absl::StatusOr<const Nvml*> Load();

  NvmlTable table_;
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_NVML_H_

// This process's hold on a GPU: the primary context, which the frameworks in
// the process share.
//
// Thread safety: const after Open. A context is current per thread: each
// thread that works with it calls MakeCurrent.
#ifndef BATON_IPC_CUDA_CUDA_CONTEXT_H_
#define BATON_IPC_CUDA_CUDA_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/driver.h"

namespace baton::ipc::cuda {

// What can be known of a GPU without a context on it.
struct GpuInfo {
  DeviceOrdinal device = 0;
  uint32_t ordinal = 0;
  std::string name;  // "NVIDIA H200"
  Uuid uuid{};
  uint64_t total_bytes = 0;
  bool posix_fd = false;  // memory can be exported as a file descriptor
  bool legacy_ipc = false;
};

// Takes no device memory. UNAVAILABLE when there is no such device, which says
// how many there are; else as Driver::Get.
absl::StatusOr<GpuInfo> DescribeGpu(uint32_t ordinal);
// By UUID: ordinals differ between processes (CUDA_VISIBLE_DEVICES).
absl::StatusOr<GpuInfo> FindGpu(const Uuid& uuid);

class CudaContext {
 public:
  // Retains the primary context and makes it current to this thread. Costs
  // some hundred MiB of device memory and up to a second where the process has
  // none yet.
  static absl::StatusOr<std::shared_ptr<const CudaContext>> Open(const GpuInfo& gpu);
  // Releases it: with the last holder in this process it goes, and what was
  // allocated in it with it.
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  absl::Status MakeCurrent() const;
  const GpuInfo& gpu() const { return gpu_; }
  const Driver& driver() const { return driver_; }

 private:
  CudaContext(const Driver& driver, GpuInfo gpu, Context context)
      : driver_(driver), gpu_(std::move(gpu)), context_(context) {}

  const Driver& driver_;
  const GpuInfo gpu_;
  const Context context_;
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_CUDA_CONTEXT_H_

#include "tests/system/device_bytes.h"

#include <algorithm>
#include <memory>

#include "ipc/cuda/cuda_context.h"

namespace baton::testing {
namespace {

namespace cuda = ipc::cuda;

// The primary context of the GPU, current on this thread. Kept to the process's end.
absl::StatusOr<const cuda::CudaContext*> Context() {
  static const auto& context = *new absl::StatusOr<std::shared_ptr<const cuda::CudaContext>>([] {
    const absl::StatusOr<cuda::GpuInfo> gpu = cuda::DescribeGpu(0);
    if (!gpu.ok()) {
      return absl::StatusOr<std::shared_ptr<const cuda::CudaContext>>(gpu.status());
    }
    return cuda::CudaContext::Open(*gpu);
  }());
  if (!context.ok()) return context.status();
  if (absl::Status current = (*context)->MakeCurrent(); !current.ok()) return current;
  return context->get();
}

uint64_t BytesOf(const TensorView& view) { return TensorBytes(view.dtype, view.shape).value_or(0); }

}  // namespace

absl::Status WriteInput(const Request& request, size_t index, std::span<const uint8_t> bytes) {
  const TensorView view = request.input_view(index);
  if (bytes.size() != BytesOf(view)) return absl::InvalidArgumentError("another size");
  if (view.device_address == 0) {
    const std::span<std::byte> to = request.input_bytes(index);
    if (to.size() != bytes.size()) return absl::InternalError("it lies nowhere");
    std::ranges::copy(std::as_bytes(bytes), to.begin());
    return absl::OkStatus();
  }
  const absl::StatusOr<const cuda::CudaContext*> context = Context();
  if (!context.ok()) return context.status();
  const cuda::Driver& driver = (*context)->driver();
  absl::Status status = driver.ToStatus(
      driver->MemcpyHtoD(view.device_address, bytes.data(), bytes.size()), "cuMemcpyHtoD");
  status.Update(driver.ToStatus(driver->CtxSynchronize(), "cuCtxSynchronize"));
  return status;
}

absl::StatusOr<std::vector<uint8_t>> ReadTensor(const TensorView& view) {
  std::vector<uint8_t> bytes(BytesOf(view));
  if (view.device_address == 0) {
    if (view.bytes.size() != bytes.size()) return absl::InternalError("it lies nowhere");
    std::ranges::copy(view.bytes, std::as_writable_bytes(std::span(bytes)).begin());
    return bytes;
  }
  const absl::StatusOr<const cuda::CudaContext*> context = Context();
  if (!context.ok()) return context.status();
  const cuda::Driver& driver = (*context)->driver();
  const absl::Status status = driver.ToStatus(
      driver->MemcpyDtoH(bytes.data(), view.device_address, bytes.size()), "cuMemcpyDtoH");
  if (!status.ok()) return status;
  return bytes;
}

}  // namespace baton::testing

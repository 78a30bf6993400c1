// Where the layers of a dense model are computed: on the host device by the
// CPU, on a GPU by its kernels.
//
// Thread safety: none; each belongs to the worker's serving thread.
#ifndef BATON_LOADER_DENSE_DENSE_LAYERS_H_
#define BATON_LOADER_DENSE_DENSE_LAYERS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/cuda_device.h"
#include "kernels/openblas/open_blas.h"
#include "loader/dense/dense_plan.h"

namespace baton::loader {

// Rows of float32 to be read: in host memory, or on the layers' device.
struct DenseInput {
  const float* host = nullptr;
  uint64_t device = 0;  // without `host`
};

class DenseLayers {
 public:
  virtual ~DenseLayers() = default;
  // `input` [rows, first layer's inputs] to `output` [rows, last layer's
  // outputs] in host memory, float32. Returns when `output` is there.
  virtual absl::Status Run(const DenseInput& input, float* output, size_t rows) = 0;
  // Whether these layers are computed on a device: then an input may lie there,
  // and so may the output.
  virtual bool on_device() const { return false; }
  virtual absl::Status RunToDevice(const DenseInput& input, uint64_t output, size_t rows) {
    static_cast<void>(input), static_cast<void>(output), static_cast<void>(rows);
    return absl::UnimplementedError("these layers are computed on the host");
  }
};

// `plan` must outlive both. `region` holds what the plan lays out, weights
// uploaded. `open_blas` (nullptr: there is none) computes what it pays for, tile
// by tile, the reference the rest. Run allocates nothing once it has run.
std::unique_ptr<DenseLayers> HostDenseLayers(const DensePlan& plan, float* region,
                                             std::unique_ptr<kernels::OpenBlas> open_blas);

// Checks first that the weights on the device are `weights`, bit for bit as
// far as a digest can tell: DATA_LOSS when not. FAILED_PRECONDITION where
// this build has no kernels for the GPU.
absl::StatusOr<std::unique_ptr<DenseLayers>> GpuDenseLayers(const DensePlan& plan,
                                                            const ipc::cuda::CudaDevice& device,
                                                            ipc::cuda::DevicePtr region,
                                                            std::span<const float> weights);

}  // namespace baton::loader

#endif  // BATON_LOADER_DENSE_DENSE_LAYERS_H_

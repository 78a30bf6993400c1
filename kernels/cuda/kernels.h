// Launching the CUDA kernels.
//
// Every call queues work on a stream and returns; the answers are there when the
// stream has been synchronised. A fault of the kernel itself (an address that is
// no device memory) is reported by a later call on the context, and the context
// is then lost.
#ifndef BATON_KERNELS_CUDA_KERNELS_H_
#define BATON_KERNELS_CUDA_KERNELS_H_

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/driver.h"
#include "kernels/cuda/grid.h"
#include "kernels/cuda/kernel_args.h"
#include "kernels/cuda/row_blocks.h"

namespace baton::kernels::cuda {

class CublasLt;

// Thread safety: const after Load (and UseCublasLt): any thread whose current
// context is the one of Load may launch. The destructor needs that context as
// well, and no launch in flight.
//
// Errors of the launches: INVALID_ARGUMENT for arguments that no kernel takes
// (nothing is queued then), else the driver's own.
class Kernels {
 public:
  // Loads the image into the current context. Cost: milliseconds; seconds where
  // the driver first compiles PTX for a GPU later than the image. Takes some
  // device memory for the code.
  //
  //   FAILED_PRECONDITION  no current context; built without nvcc; no code for
  //                        this GPU
  static absl::StatusOr<std::unique_ptr<Kernels>> Load(const ipc::cuda::Driver& driver);

  ~Kernels();
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  // From now on Dense goes to cuBLASLt where it has an algorithm. Before other
  // threads launch.
  void UseCublasLt(std::unique_ptr<CublasLt> cublas_lt);

  // The blocks' rows, one after another, into `batch`, and back (kernels/pack.h).
  // `blocks` is only read during the call. One launch for each kMaxRowBlocks.
  absl::Status Pack(std::span<const DeviceRows> blocks, uint64_t row_bytes,
                    ipc::cuda::DevicePtr batch, ipc::cuda::Stream stream) const;
  absl::Status Unpack(ipc::cuda::DevicePtr batch, uint64_t row_bytes,
                      std::span<const DeviceRows> blocks, ipc::cuda::Stream stream) const;

  absl::Status Cast(const CastArgs& args, ipc::cuda::Stream stream) const;

  // Unlike the kernel's, the result is the digest, whatever was there before.
  absl::Status Digest(const DigestArgs& args, ipc::cuda::Stream stream) const;

  // Zeros. By the driver's own means, no kernel.
  absl::Status Scrub(ipc::cuda::DevicePtr address, uint64_t bytes, ipc::cuda::Stream stream) const;

  // activation(input x weights + bias), to within the tolerance of DESIGN.md.
  absl::Status Dense(const DenseArgs& args, ipc::cuda::Stream stream) const;

  absl::Status SoftmaxRows(const SoftmaxRowsArgs& args, ipc::cuda::Stream stream) const;

 private:
  explicit Kernels(const ipc::cuda::Driver& driver);

  absl::Status Find(const char* name, ipc::cuda::Function* function) const;
  absl::Status LaunchRowBlocks(ipc::cuda::Function function, const char* name,
                               std::span<const DeviceRows> blocks, uint64_t row_bytes,
                               ipc::cuda::DevicePtr batch, ipc::cuda::Stream stream) const;
  template <class Args>
  absl::Status Launch(ipc::cuda::Function function, const char* name, const Args& args,
                      ipc::cuda::Stream stream) const;

  const ipc::cuda::Driver& driver_;
  ipc::cuda::Module module_ = nullptr;
  ipc::cuda::Function pack_ = nullptr;
  ipc::cuda::Function unpack_ = nullptr;
  ipc::cuda::Function cast_ = nullptr;
  ipc::cuda::Function digest_ = nullptr;
  ipc::cuda::Function dense_ = nullptr;
  ipc::cuda::Function softmax_rows_ = nullptr;
  std::unique_ptr<CublasLt> cublas_lt_;  // may be null
};

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_KERNELS_H_

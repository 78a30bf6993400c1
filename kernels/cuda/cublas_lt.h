// Dense layers by NVIDIA's cuBLASLt, where its library is found at run time.
// Faster than baton_dense for all but small layers.
//
// Only for a real driver: what it opens calls the driver by itself.
#ifndef BATON_KERNELS_CUDA_CUBLAS_LT_H_
#define BATON_KERNELS_CUDA_CUBLAS_LT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/driver_abi.h"
#include "kernels/cuda/kernel_args.h"

namespace baton::kernels::cuda {

// Thread safety: Dense may be called by several threads at once, each with the
// context of Load current; the plans are behind a mutex, which is not held during
// a product. The destructor overlaps no call, and needs that context too.
class CublasLt {
 public:
  // Opens libbaton_cublaslt.so: the one beside the running program, else the one
  // that the dynamic loader finds. Needs a current context. Cost: up to seconds,
  // since cuBLASLt has half a gigabyte of code; it takes host and device memory.
  //
  //   NOT_FOUND            not there, or what it needs (libcublasLt) is not
  //   FAILED_PRECONDITION  a library of another version of Baton
  //   INTERNAL             cuBLASLt does not start
  // The answer to each is to go on without: Kernels::Dense then launches
  // baton_dense.
  static absl::StatusOr<std::unique_ptr<CublasLt>> Load();
  // The library at `path`.
  static absl::StatusOr<std::unique_ptr<CublasLt>> LoadFrom(const std::string& path);

  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // As Kernels::Dense; no size is 0. The first call of a shape costs some 100 us
  // and allocates.
  //
  //   UNIMPLEMENTED  no algorithm for this shape: nothing was queued
  //   INTERNAL       what cuBLASLt says
  absl::Status Dense(const DenseArgs& args, ipc::cuda::Stream stream) const;

 private:
  struct Library;
  struct Plans;

  CublasLt();

  std::unique_ptr<Library> library_;
  std::unique_ptr<Plans> plans_;
};

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_CUBLAS_LT_H_

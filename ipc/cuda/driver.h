// The CUDA driver of this process, found at run time: one binary serves
// machines with and without a GPU.
//
// Thread safety: Driver::Get may be called by any thread; the table's
// functions are as thread-safe as the driver makes them (all of them may be
// called by any thread; most act on the context that is current to it).
#ifndef BATON_IPC_CUDA_DRIVER_H_
#define BATON_IPC_CUDA_DRIVER_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/driver_abi.h"

namespace baton::ipc::cuda {

// As cuDriverGetVersion counts: 1000 * major + 10 * minor.
inline constexpr int kOldestDriverVersion = 12000;

class Driver {
 public:
  // Loads libcuda.so.1 and initialises it; the first answer holds for the life
  // of the process (a driver cannot be loaded twice). Makes no context and
  // takes no device memory. Cost: the first call up to a second.
  //
  //   NOT_FOUND            no libcuda.so.1: no driver on this machine, or none
  //                        handed to this container
  //   FAILED_PRECONDITION  a driver that is too old, that lacks a function, or
  //                        that does not get along with the kernel's part
  //   UNAVAILABLE          a driver, but no device that this process may use
  // Each says what to do.
  static absl::StatusOr<const Driver*> Get();

  const DriverTable* operator->() const { return &table_; }
  int version() const { return version_; }
  // "13.0"
  std::string VersionText() const;
  // Whether NVIDIA's own libraries (cuBLAS, the CUDA runtime) can work on it;
  // they need more than the table has. A simulated one cannot carry them.
  bool carries_runtime() const { return carries_runtime_; }

  // OK for kSuccess, else "<what>: CUDA_ERROR_..: text" with a fitting code:
  // RESOURCE_EXHAUSTED for kOutOfMemory, UNAVAILABLE for a missing device,
  // INTERNAL for what only a broken device or program gives.
  absl::Status ToStatus(Result result, std::string_view what) const;

 private:
  Driver() = default;
  static absl::StatusOr<const Driver*> Load();

  DriverTable table_;
  int version_ = 0;
  bool carries_runtime_ = false;
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_DRIVER_H_

// What cuda_kernels_test runs the kernels on: a device behind a driver, real or
// simulated (driver_machine.cc), or the kernels' own source compiled for the CPU
// (cpu_machine.cc). One of the two is linked in.
#ifndef BATON_TESTS_KERNELS_KERNEL_MACHINE_H_
#define BATON_TESTS_KERNELS_KERNEL_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "kernels/cuda/kernel_args.h"
#include "kernels/cuda/row_blocks.h"

namespace baton::kernels::cuda {

// Thread safety: none. Statuses are of the launch alone until Finish.
class KernelMachine {
 public:
  virtual ~KernelMachine() = default;

  virtual absl::StatusOr<uint64_t> Allocate(uint64_t bytes) = 0;  // aligned to 256
  virtual void Free(uint64_t address) = 0;
  virtual absl::Status Write(uint64_t address, std::span<const std::byte> bytes) = 0;
  virtual absl::Status Read(uint64_t address, std::span<std::byte> bytes) = 0;
  // Bytes after an array that a test fills and looks at again. None where an
  // allocation's end is guarded better than that.
  virtual uint64_t GuardBytes() const { return 256; }
  // Ours does; NVIDIA does not say.
  virtual bool ReluKeepsNan() const { return true; }

  virtual absl::Status Pack(std::span<const DeviceRows> blocks, uint64_t row_bytes,
                            uint64_t batch) = 0;
  virtual absl::Status Unpack(uint64_t batch, uint64_t row_bytes,
                              std::span<const DeviceRows> blocks) = 0;
  virtual absl::Status Cast(const CastArgs& args) = 0;
  virtual absl::Status Digest(const DigestArgs& args) = 0;
  virtual absl::Status Scrub(uint64_t address, uint64_t bytes) = 0;
  virtual absl::Status Dense(const DenseArgs& args) = 0;
  virtual absl::Status SoftmaxRows(const SoftmaxRowsArgs& args) = 0;

  // Waits for all of it.
  virtual absl::Status Finish() = 0;
};

// The machine of this process, which lives as long as it. UNAVAILABLE where there
// is no driver: then the tests are skipped (or fail, where the environment has
// BATON_REQUIRE_CUDA_DRIVER). Any other error is a failure.
absl::StatusOr<KernelMachine*> TestMachine();

}  // namespace baton::kernels::cuda

#endif  // BATON_TESTS_KERNELS_KERNEL_MACHINE_H_

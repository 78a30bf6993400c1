// The kernels' own source, compiled for the CPU, with the grids and the splitting
// into launches that a device gets. Addresses are the host's.
#include <cstring>
#include <memory>
#include <new>

#include "tests/kernels/cuda_on_cpu.h"

// After it.
#include "kernels/cuda/kernel_image.cu"
#include "tests/kernels/kernel_machine.h"

namespace baton::kernels::cuda {
namespace {

constexpr std::align_val_t kAlignment{256};

class CpuMachine : public KernelMachine {
 public:
  absl::StatusOr<uint64_t> Allocate(uint64_t bytes) override {
    return reinterpret_cast<uint64_t>(::operator new(bytes, kAlignment));
  }
  void Free(uint64_t address) override {
    ::operator delete(reinterpret_cast<void*>(address), kAlignment);
  }
  absl::Status Write(uint64_t address, std::span<const std::byte> bytes) override {
    std::memcpy(reinterpret_cast<void*>(address), bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  absl::Status Read(uint64_t address, std::span<std::byte> bytes) override {
    std::memcpy(bytes.data(), reinterpret_cast<const void*>(address), bytes.size());
    return absl::OkStatus();
  }
#ifdef __SANITIZE_ADDRESS__
  uint64_t GuardBytes() const override { return 0; }  // which sees reads, too
#endif

  absl::Status Pack(std::span<const DeviceRows> blocks, uint64_t row_bytes,
                    uint64_t batch) override {
    return RowBlocks(baton_pack, blocks, row_bytes, batch);
  }
  absl::Status Unpack(uint64_t batch, uint64_t row_bytes,
                      std::span<const DeviceRows> blocks) override {
    return RowBlocks(baton_unpack, blocks, row_bytes, batch);
  }
  absl::Status Cast(const CastArgs& args) override { return Run(baton_cast, args); }
  absl::Status Digest(const DigestArgs& args) override {
    if (absl::Status status = Scrub(args.result, sizeof(uint64_t)); !status.ok()) return status;
    return Run(baton_digest, args);
  }
  absl::Status Scrub(uint64_t address, uint64_t bytes) override {
    std::memset(reinterpret_cast<void*>(address), 0, bytes);
    return absl::OkStatus();
  }
  absl::Status Dense(const DenseArgs& args) override { return Run(baton_dense, args); }
  absl::Status SoftmaxRows(const SoftmaxRowsArgs& args) override {
    return Run(baton_softmax_rows, args);
  }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  template <class Args>
  static absl::Status Run(void (*kernel)(Args), const Args& args) {
    cuda_on_cpu::Run<Args>(kernel, args, GridOf(args));
    return absl::OkStatus();
  }
  static absl::Status RowBlocks(void (*kernel)(RowBlocksArgs), std::span<const DeviceRows> blocks,
                                uint64_t row_bytes, uint64_t batch) {
    ForEachLaunch(blocks, row_bytes, batch,
                  [&](const RowBlocksArgs& some) { return Run(kernel, some).ok(); });
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<KernelMachine*> TestMachine() {
  static CpuMachine machine;
  return &machine;
}

}  // namespace baton::kernels::cuda

// The device of the driver that this process finds, through the class Kernels;
// dense layers by cuBLASLt where the environment's BATON_TEST_CUBLASLT is its library.
#include <cstdlib>
#include <memory>
#include <string>

#include "ipc/cuda/driver.h"
#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/kernels.h"
#include "tests/kernels/kernel_machine.h"

namespace baton::kernels::cuda {
namespace {

class DriverMachine : public KernelMachine {
 public:
  static absl::StatusOr<KernelMachine*> Make() {
    const auto driver = ipc::cuda::Driver::Get();
    if (!driver.ok()) return absl::UnavailableError(std::string(driver.status().message()));
    static DriverMachine machine(**driver);
    if (absl::Status status = machine.Open(); !status.ok()) return status;
    return &machine;
  }
  ~DriverMachine() override = default;

  absl::StatusOr<uint64_t> Allocate(uint64_t bytes) override {
    ipc::cuda::DevicePtr address = 0;
    absl::Status status = driver_.ToStatus(driver_->MemAlloc(&address, bytes), "cuMemAlloc");
    if (!status.ok()) return status;
    return address;
  }
  void Free(uint64_t address) override { driver_->MemFree(address); }
  absl::Status Write(uint64_t address, std::span<const std::byte> bytes) override {
    return driver_.ToStatus(driver_->MemcpyHtoD(address, bytes.data(), bytes.size()),
                            "cuMemcpyHtoD");
  }
  absl::Status Read(uint64_t address, std::span<std::byte> bytes) override {
    return driver_.ToStatus(driver_->MemcpyDtoH(bytes.data(), address, bytes.size()),
                            "cuMemcpyDtoH");
  }

  absl::Status Pack(std::span<const DeviceRows> blocks, uint64_t row_bytes,
                    uint64_t batch) override {
    return kernels_->Pack(blocks, row_bytes, batch, stream_);
  }
  absl::Status Unpack(uint64_t batch, uint64_t row_bytes,
                      std::span<const DeviceRows> blocks) override {
    return kernels_->Unpack(batch, row_bytes, blocks, stream_);
  }
  absl::Status Cast(const CastArgs& args) override { return kernels_->Cast(args, stream_); }
  absl::Status Digest(const DigestArgs& args) override { return kernels_->Digest(args, stream_); }
  absl::Status Scrub(uint64_t address, uint64_t bytes) override {
    return kernels_->Scrub(address, bytes, stream_);
  }
  absl::Status Dense(const DenseArgs& args) override {
    if (cublas_lt_ == nullptr) return kernels_->Dense(args, stream_);
    const absl::Status status = cublas_lt_->Dense(args, stream_);
    // It may decline what is aligned to a float only, as Kernels::Dense lets it; nothing else.
    const bool aligned = (args.input | args.output) % 16 == 0;
    return absl::IsUnimplemented(status) && !aligned ? kernels_->Dense(args, stream_) : status;
  }
  bool ReluKeepsNan() const override { return cublas_lt_ == nullptr; }
  absl::Status SoftmaxRows(const SoftmaxRowsArgs& args) override {
    return kernels_->SoftmaxRows(args, stream_);
  }
  absl::Status Finish() override {
    return driver_.ToStatus(driver_->StreamSynchronize(stream_), "cuStreamSynchronize");
  }

 private:
  explicit DriverMachine(const ipc::cuda::Driver& driver) : driver_(driver) {}

  absl::Status Open() {
    ipc::cuda::DeviceOrdinal device = 0;
    ipc::cuda::Context context = nullptr;
    absl::Status status = driver_.ToStatus(driver_->DeviceGet(&device, 0), "cuDeviceGet");
    if (!status.ok()) return status;
    status = driver_.ToStatus(driver_->DevicePrimaryCtxRetain(&context, device),
                              "cuDevicePrimaryCtxRetain");
    if (!status.ok()) return status;
    status = driver_.ToStatus(driver_->CtxSetCurrent(context), "cuCtxSetCurrent");
    if (!status.ok()) return status;
    // One that does not wait for the legacy stream: what is not waited for shows.
    status = driver_.ToStatus(driver_->StreamCreate(&stream_, ipc::cuda::kStreamNonBlocking),
                              "cuStreamCreate");
    if (!status.ok()) return status;
    auto kernels = Kernels::Load(driver_);
    if (!kernels.ok()) return kernels.status();
    // Not closed: the context goes with the process.
    kernels_ = kernels->release();
    const char* const library = std::getenv("BATON_TEST_CUBLASLT");
    if (library == nullptr) return absl::OkStatus();
    auto cublas_lt = CublasLt::LoadFrom(library);
    if (!cublas_lt.ok()) return cublas_lt.status();
    cublas_lt_ = cublas_lt->release();
    return absl::OkStatus();
  }

  const ipc::cuda::Driver& driver_;
  ipc::cuda::Stream stream_ = nullptr;
  Kernels* kernels_ = nullptr;
  CublasLt* cublas_lt_ = nullptr;
};

}  // namespace

absl::StatusOr<KernelMachine*> TestMachine() {
  static const absl::StatusOr<KernelMachine*> machine = DriverMachine::Make();
  return machine;
}

}  // namespace baton::kernels::cuda

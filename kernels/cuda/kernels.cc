#include "kernels/cuda/kernels.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/kernel_image.h"

namespace baton::kernels::cuda {
namespace {

absl::Status Refuse(const char* kernel, const char* why) {
  return absl::InvalidArgumentError(absl::StrCat(kernel, ": ", why));
}

}  // namespace

Kernels::Kernels(const ipc::cuda::Driver& driver) : driver_(driver) {}

Kernels::~Kernels() {
  // Whatever it says: the context may be gone, and the module with it.
  if (module_ != nullptr) driver_->ModuleUnload(module_);
}

absl::StatusOr<std::unique_ptr<Kernels>> Kernels::Load(const ipc::cuda::Driver& driver) {
  std::unique_ptr<Kernels> kernels(new Kernels(driver));
  const ipc::cuda::Result loaded = driver->ModuleLoadData(&kernels->module_, KernelImage().data());
  if (loaded != ipc::cuda::kSuccess) {
    kernels->module_ = nullptr;
    const absl::Status status = driver.ToStatus(loaded, "cuModuleLoadData");
    return KernelImageError(loaded, std::string(status.message()), KernelImageBuilt());
  }
  const std::pair<const char*, ipc::cuda::Function*> wanted[] = {
      {"baton_pack", &kernels->pack_},   {"baton_unpack", &kernels->unpack_},
      {"baton_cast", &kernels->cast_},   {"baton_digest", &kernels->digest_},
      {"baton_dense", &kernels->dense_}, {"baton_softmax_rows", &kernels->softmax_rows_},
  };
  for (const auto& [name, function] : wanted) {
    absl::Status status = kernels->Find(name, function);
    if (!status.ok()) return status;
  }
  return kernels;
}

absl::Status Kernels::Find(const char* name, ipc::cuda::Function* function) const {
  const ipc::cuda::Result found = driver_->ModuleGetFunction(function, module_, name);
  const absl::Status status =
      driver_.ToStatus(found, absl::StrCat("cuModuleGetFunction(", name, ")"));
  return KernelImageError(found, std::string(status.message()), KernelImageBuilt());
}

void Kernels::UseCublasLt(std::unique_ptr<CublasLt> cublas_lt) {
  cublas_lt_ = std::move(cublas_lt);
}

template <class Args>
absl::Status Kernels::Launch(ipc::cuda::Function function, const char* name, const Args& args,
                             ipc::cuda::Stream stream) const {
  const Grid grid = GridOf(args);
  // The driver copies the arguments before it returns.
  void* parameters[] = {const_cast<Args*>(&args)};
  return driver_.ToStatus(
      driver_->LaunchKernel(function, grid.x, grid.y, grid.z, grid.block_x, grid.block_y,
                            grid.block_z, /*shared_bytes=*/0, stream, parameters,
                            /*extra=*/nullptr),
      name);
}

absl::Status Kernels::LaunchRowBlocks(ipc::cuda::Function function, const char* name,
                                      std::span<const DeviceRows> blocks, uint64_t row_bytes,
                                      ipc::cuda::DevicePtr batch, ipc::cuda::Stream stream) const {
  absl::Status status;
  ForEachLaunch(blocks, row_bytes, batch, [&](const RowBlocksArgs& some) {
    status = Launch(function, name, some, stream);
    return status.ok();
  });
  return status;
}

absl::Status Kernels::Pack(std::span<const DeviceRows> blocks, uint64_t row_bytes,
                           ipc::cuda::DevicePtr batch, ipc::cuda::Stream stream) const {
  return LaunchRowBlocks(pack_, "baton_pack", blocks, row_bytes, batch, stream);
}

absl::Status Kernels::Unpack(ipc::cuda::DevicePtr batch, uint64_t row_bytes,
                             std::span<const DeviceRows> blocks, ipc::cuda::Stream stream) const {
  return LaunchRowBlocks(unpack_, "baton_unpack", blocks, row_bytes, batch, stream);
}

absl::Status Kernels::Cast(const CastArgs& args, ipc::cuda::Stream stream) const {
  if (args.input_type > FloatType::kBfloat16 || args.output_type > FloatType::kBfloat16) {
    return Refuse("baton_cast", "no such float type");
  }
  if (args.count == 0) return absl::OkStatus();
  if (args.input % FloatBytes(args.input_type) != 0 ||
      args.output % FloatBytes(args.output_type) != 0) {
    return Refuse("baton_cast", "an address is not aligned to its elements");
  }
  return Launch(cast_, "baton_cast", args, stream);
}

absl::Status Kernels::Digest(const DigestArgs& args, ipc::cuda::Stream stream) const {
  if (args.result % sizeof(uint64_t) != 0) {
    return Refuse("baton_digest", "the result's address is not aligned to 8");
  }
  // The kernel adds; of no bytes, too: the length counts.
  absl::Status status = Scrub(args.result, sizeof(uint64_t), stream);
  if (!status.ok()) return status;
  return Launch(digest_, "baton_digest", args, stream);
}

absl::Status Kernels::Scrub(ipc::cuda::DevicePtr address, uint64_t bytes,
                            ipc::cuda::Stream stream) const {
  if (bytes == 0) return absl::OkStatus();
  return driver_.ToStatus(driver_->MemsetD8Async(address, 0, bytes, stream), "cuMemsetD8Async");
}

absl::Status Kernels::Dense(const DenseArgs& args, ipc::cuda::Stream stream) const {
  if (args.activation > Activation::kRelu) return Refuse("baton_dense", "no such activation");
  if (args.rows == 0 || args.outputs == 0) return absl::OkStatus();
  if (args.weights % 16 != 0) return Refuse("baton_dense", "the weights are not aligned to 16");
  if ((args.input | args.bias | args.output) % sizeof(float) != 0) {
    return Refuse("baton_dense", "an address is not aligned to 4");
  }
  if (cublas_lt_ != nullptr && args.inputs > 0) {
    absl::Status status = cublas_lt_->Dense(args, stream);
    if (!absl::IsUnimplemented(status)) return status;
  }
  if (!DenseFits(args)) return Refuse("baton_dense", "more rows or outputs than a grid takes");
  return Launch(dense_, "baton_dense", args, stream);
}

absl::Status Kernels::SoftmaxRows(const SoftmaxRowsArgs& args, ipc::cuda::Stream stream) const {
  if (args.rows == 0) return absl::OkStatus();
  if (args.columns == 0) return Refuse("baton_softmax_rows", "rows of no columns");
  if (args.values % sizeof(float) != 0) {
    return Refuse("baton_softmax_rows", "the address is not aligned to 4");
  }
  return Launch(softmax_rows_, "baton_softmax_rows", args, stream);
}

}  // namespace baton::kernels::cuda

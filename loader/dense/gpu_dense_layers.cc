#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/kernels.h"
#include "kernels/digest.h"
#include "loader/dense/dense_layers.h"

namespace baton::loader {
namespace {

namespace cuda = ipc::cuda;

class OnGpu final : public DenseLayers {
 public:
  OnGpu(const DensePlan& plan, const cuda::CudaDevice& device, cuda::DevicePtr region,
        std::unique_ptr<kernels::cuda::Kernels> kernels)
      : plan_(plan),
        driver_(device.context()->driver()),
        stream_(device.stream()),
        region_(region),
        kernels_(std::move(kernels)) {}

  absl::Status CheckWeights(std::span<const float> weights) const;
  absl::Status Run(const DenseInput& input, float* output, size_t rows) override;
  bool on_device() const override { return true; }
  absl::Status RunToDevice(const DenseInput& input, uint64_t output, size_t rows) override;

 private:
  cuda::DevicePtr At(size_t floats) const { return region_ + floats * sizeof(float); }
  // The tile from `row` on through all layers; the last one writes to `output`.
  absl::Status RunTile(const DenseInput& input, size_t row, cuda::DevicePtr output,
                       size_t rows) const;
  absl::Status RunLayer(const DenseLayer& layer, cuda::DevicePtr input, cuda::DevicePtr output,
                        size_t rows) const;
  absl::Status Synchronize() const {
    return driver_.ToStatus(driver_->StreamSynchronize(stream_), "cuStreamSynchronize");
  }

  const DensePlan& plan_;
  const cuda::Driver& driver_;
  const cuda::Stream stream_;
  const cuda::DevicePtr region_;
  const std::unique_ptr<kernels::cuda::Kernels> kernels_;
};

absl::Status OnGpu::CheckWeights(std::span<const float> weights) const {
  const auto bytes = std::as_bytes(weights);
  const cuda::DevicePtr result = At(plan_.digest_offset);
  absl::Status status =
      kernels_->Digest({.input = region_, .bytes = bytes.size(), .result = result}, stream_);
  uint64_t found = 0;
  if (status.ok()) {
    status = driver_.ToStatus(driver_->MemcpyDtoHAsync(&found, result, sizeof(found), stream_),
                              "cuMemcpyDtoHAsync");
  }
  // Also after an error: what was queued may still write to `found`.
  status.Update(Synchronize());
  if (!status.ok()) return status;
  if (const uint64_t expected = kernels::Digest(bytes); found != expected) {
    return absl::DataLossError(
        absl::StrCat("the weights on the device are not those of the file (digest ",
                     absl::Hex(found), ", expected ", absl::Hex(expected),
                     "): the upload went wrong, or the GPU's memory is broken"));
  }
  return absl::OkStatus();
}

absl::Status OnGpu::RunLayer(const DenseLayer& layer, cuda::DevicePtr input, cuda::DevicePtr output,
                             size_t rows) const {
  using kernels::cuda::Activation;
  const bool relu = layer.activation == loader::Activation::kRelu;
  absl::Status status = kernels_->Dense({.input = input,
                                         .weights = At(layer.weight_offset),
                                         .bias = At(layer.bias_offset),
                                         .output = output,
                                         .rows = rows,
                                         .inputs = layer.inputs,
                                         .outputs = layer.outputs,
                                         .activation = relu ? Activation::kRelu : Activation::kNone,
                                         .reserved = 0},
                                        stream_);
  if (status.ok() && layer.activation == loader::Activation::kSoftmax) {
    status =
        kernels_->SoftmaxRows({.values = output, .rows = rows, .columns = layer.outputs}, stream_);
  }
  return status;
}

absl::Status OnGpu::RunTile(const DenseInput& input, size_t row, cuda::DevicePtr output,
                            size_t rows) const {
  const size_t columns = plan_.layers.front().inputs;
  size_t in = 0;
  absl::Status status;
  // What lies on the device is read where it is.
  cuda::DevicePtr from = input.device + row * columns * sizeof(float);
  if (input.device == 0) {
    from = At(plan_.scratch_offsets[in]);
    status = driver_.ToStatus(driver_->MemcpyHtoDAsync(from, input.host + row * columns,
                                                       rows * columns * sizeof(float), stream_),
                              "cuMemcpyHtoDAsync");
  }
  for (const DenseLayer& layer : plan_.layers) {
    if (!status.ok()) return status;
    const bool last = &layer == &plan_.layers.back();
    const cuda::DevicePtr to = last ? output : At(plan_.scratch_offsets[1 - in]);
    status = RunLayer(layer, from, to, rows);
    from = to;
    in = 1 - in;
  }
  return status;
}

absl::Status OnGpu::Run(const DenseInput& input, float* output, size_t rows) {
  const size_t classes = plan_.layers.back().outputs;
  // Where the last layer does not read.
  const cuda::DevicePtr results = At(plan_.scratch_offsets[plan_.layers.size() % 2]);
  absl::Status status;
  for (size_t row = 0; row < rows && status.ok(); row += plan_.row_tile) {
    const size_t tile = std::min(plan_.row_tile, rows - row);
    status = RunTile(input, row, results, tile);
    if (!status.ok()) break;
    // Straight into the loaned block, which is registered memory.
    status = driver_.ToStatus(driver_->MemcpyDtoHAsync(output + row * classes, results,
                                                       tile * classes * sizeof(float), stream_),
                              "cuMemcpyDtoHAsync");
  }
  // Also after an error: nothing may write to the block once it was handed back.
  status.Update(Synchronize());
  return status;
}

absl::Status OnGpu::RunToDevice(const DenseInput& input, uint64_t output, size_t rows) {
  const size_t classes = plan_.layers.back().outputs;
  absl::Status status;
  for (size_t row = 0; row < rows && status.ok(); row += plan_.row_tile) {
    status = RunTile(input, row, output + row * classes * sizeof(float),
                     std::min(plan_.row_tile, rows - row));
  }
  status.Update(Synchronize());
  return status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DenseLayers>> GpuDenseLayers(const DensePlan& plan,
                                                            const cuda::CudaDevice& device,
                                                            cuda::DevicePtr region,
                                                            std::span<const float> weights) {
  const cuda::Driver& driver = device.context()->driver();
  absl::StatusOr<std::unique_ptr<kernels::cuda::Kernels>> kernels =
      kernels::cuda::Kernels::Load(driver);
  if (!kernels.ok()) return kernels.status();
  if (driver.carries_runtime()) {
    // Without it the layers are slower, and that is all.
    auto cublas_lt = kernels::cuda::CublasLt::Load();
    if (cublas_lt.ok()) (*kernels)->UseCublasLt(*std::move(cublas_lt));
  }
  auto layers = std::make_unique<OnGpu>(plan, device, region, *std::move(kernels));
  absl::Status checked = layers->CheckWeights(weights);
  if (!checked.ok()) return checked;
  return layers;
}

}  // namespace baton::loader

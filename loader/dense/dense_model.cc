#include "loader/dense/dense_model.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "kernels/dense.h"
#include "kernels/openblas/open_blas.h"
#include "loader/dense/dense_layers.h"
#include "loader/dense/dense_plan.h"
#include "loader/safetensors.h"

namespace baton::loader {
namespace {

class DenseModel final : public Model {
 public:
  // `open_blas`: for the layers on the host that gain by it; nullptr without.
  DenseModel(std::string name, DensePlan plan, std::vector<float> staged,
             std::unique_ptr<kernels::OpenBlas> open_blas)
      : name_(std::move(name)),
        plan_(std::move(plan)),
        staged_(std::move(staged)),
        open_blas_(std::move(open_blas)) {}

  const Signature& signature() const override { return plan_.signature; }
  uint64_t device_bytes() const override { return plan_.total_floats * sizeof(float); }

  absl::Status Upload(const DeviceRegion& region) override;
  absl::Status Run(std::span<const TensorView> inputs, OutputSink& outputs) override;
  bool takes_device_inputs() const override { return layers_ != nullptr && layers_->on_device(); }
  void Cleanup() override { layers_.reset(); }

 private:
  const std::string name_;
  const DensePlan plan_;
  std::vector<float> staged_;                     // empty once uploaded
  std::unique_ptr<kernels::OpenBlas> open_blas_;  // until uploaded
  std::unique_ptr<DenseLayers> layers_;           // once uploaded
};

absl::Status DenseModel::Upload(const DeviceRegion& region) {
  if (staged_.empty() || region.device == nullptr || region.bytes < device_bytes() ||
      region.address % 128 != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("dense model '", name_, "': Upload is called once, with a region of ",
                     device_bytes(), " bytes at a multiple of 128"));
  }
  absl::Status copied =
      region.device->CopyToDevice(region.address, std::as_bytes(std::span(staged_)));
  if (!copied.ok()) return copied;
  if (region.device->name() == "host") {
    layers_ =
        HostDenseLayers(plan_, reinterpret_cast<float*>(region.address), std::move(open_blas_));
  } else if (const auto* gpu = dynamic_cast<const ipc::cuda::CudaDevice*>(region.device)) {
    absl::StatusOr<std::unique_ptr<DenseLayers>> layers =
        GpuDenseLayers(plan_, *gpu, region.address, staged_);
    if (!layers.ok()) return layers.status();
    layers_ = *std::move(layers);
  } else {
    return absl::UnimplementedError(absl::StrCat("dense model '", name_,
                                                 "': does not know the device '",
                                                 std::string(region.device->name()), "'"));
  }
  std::vector<float>().swap(staged_);  // clear() would keep the memory
  return absl::OkStatus();
}

absl::Status DenseModel::Run(std::span<const TensorView> inputs, OutputSink& outputs) {
  if (layers_ == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("dense model '", name_, "': Run before Upload or after Cleanup"));
  }
  const DenseInput values = {.host = inputs[0].As<float>().data(),
                             .device = inputs[0].device_address};
  const auto rows = static_cast<size_t>(inputs[0].shape[0]);
  const int64_t shape[] = {inputs[0].shape[0], static_cast<int64_t>(plan_.layers.back().outputs)};
  if (outputs.on_device() && layers_->on_device()) {
    const absl::StatusOr<uint64_t> address = outputs.AllocateOnDevice(0, shape);
    if (!address.ok()) return address.status();
    return layers_->RunToDevice(values, *address, rows);
  }
  absl::StatusOr<std::span<std::byte>> block = outputs.Allocate(0, shape);
  if (!block.ok()) return block.status();
  return layers_->Run(values, reinterpret_cast<float*>(block->data()), rows);
}

absl::StatusOr<std::vector<float>> ReadFloats(const SafetensorsFile& file,
                                              const std::string& name) {
  const absl::StatusOr<const StoredTensor*> tensor = file.Find(name);
  if (!tensor.ok()) return tensor.status();
  std::vector<float> values((*tensor)->bytes / sizeof(float));
  absl::Status read = file.Read(**tensor, std::as_writable_bytes(std::span(values)));
  if (!read.ok()) return read;
  return values;
}

absl::StatusOr<std::vector<float>> StageWeights(const SafetensorsFile& file,
                                                const DensePlan& plan) {
  std::vector<float> staged(plan.weight_floats);
  for (const DenseLayer& layer : plan.layers) {
    const absl::StatusOr<std::vector<float>> weight = ReadFloats(file, layer.weight);
    if (!weight.ok()) return weight.status();
    kernels::PackWeights(
        *weight, layer.outputs, layer.inputs,
        std::span(staged).subspan(layer.weight_offset,
                                  layer.inputs * kernels::PaddedColumns(layer.outputs)));
    if (!layer.bias) continue;
    const absl::StatusOr<std::vector<float>> bias = ReadFloats(file, *layer.bias);
    if (!bias.ok()) return bias.status();
    std::copy(bias->begin(), bias->end(),
              staged.begin() + static_cast<std::ptrdiff_t>(layer.bias_offset));
  }
  return staged;
}

// Opened while the generation before still serves, and only for a layer that gains by it. Without
// it the layers are slower, and that is all.
std::unique_ptr<kernels::OpenBlas> StageOpenBlas(const ModelConfig& config, const DensePlan& plan) {
  const auto pays = [&](const DenseLayer& layer) {
    return kernels::OpenBlas::Pays(plan.row_tile, layer.inputs, layer.outputs);
  };
  if (config.device != "host" || std::ranges::none_of(plan.layers, pays)) return nullptr;
  absl::StatusOr<std::unique_ptr<kernels::OpenBlas>> open_blas = kernels::OpenBlas::Load();
  return open_blas.ok() ? *std::move(open_blas) : nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> StageDenseModel(const ModelConfig& config) {
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(config.file);
  if (!file.ok()) return file.status();
  absl::StatusOr<DensePlan> plan = PlanDenseModel(config, *file);
  if (!plan.ok()) return plan.status();
  absl::StatusOr<std::vector<float>> staged = StageWeights(*file, *plan);
  if (!staged.ok()) return staged.status();
  std::unique_ptr<kernels::OpenBlas> open_blas = StageOpenBlas(config, *plan);
  return std::make_unique<DenseModel>(config.name, *std::move(plan), *std::move(staged),
                                      std::move(open_blas));
}

}  // namespace baton::loader

#include "loader/dense/dense_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "kernels/dense.h"

namespace baton::loader {
namespace {

constexpr size_t kAlignFloats = 128 / sizeof(float);

size_t Aligned(size_t floats) { return (floats + kAlignFloats - 1) / kAlignFloats * kAlignFloats; }

absl::Status Invalid(const std::string& path, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", message));
}

std::optional<std::string> Option(const ModelConfig& config, const std::string& key) {
  const auto found = config.options.find(key);
  if (found == config.options.end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<Activation> ParseActivation(const ModelConfig& config, const std::string& key,
                                           const std::string& text) {
  if (text == "none") return Activation::kNone;
  if (text == "relu") return Activation::kRelu;
  if (text == "softmax") return Activation::kSoftmax;
  return Invalid(config.directory + "/config.yaml",
                 absl::StrCat("dense.", key, ": '", absl::Utf8SafeCEscape(text),
                              "' is none of none, relu, softmax"));
}

// As the config lists them; none where it does not.
absl::StatusOr<std::vector<DenseLayer>> ListedLayers(const ModelConfig& config) {
  std::vector<DenseLayer> layers;
  for (;;) {
    const std::string key = absl::StrCat("layers.", layers.size());
    const std::optional<std::string> weight = Option(config, key + ".weight");
    if (!weight) {
      const auto next = config.options.lower_bound(key + ".");
      if (next == config.options.end() || !next->first.starts_with(key + ".")) return layers;
      return Invalid(config.directory + "/config.yaml",
                     absl::StrCat("dense.", key, ": needs the name of its 'weight' tensor"));
    }
    absl::StatusOr<Activation> activation = ParseActivation(
        config, key + ".activation", Option(config, key + ".activation").value_or("none"));
    if (!activation.ok()) return activation.status();
    layers.push_back(
        {.weight = *weight, .bias = Option(config, key + ".bias"), .activation = *activation});
  }
}

bool Has(const SafetensorsFile& file, const std::string& name) {
  return std::any_of(file.tensors().begin(), file.tensors().end(),
                     [&](const StoredTensor& tensor) { return tensor.spec.name == name; });
}

// As the tensors' names say. A tensor that no layer uses is an error: a gap in
// the numbers would cut the network short without a word.
absl::StatusOr<std::vector<DenseLayer>> NamedLayers(const ModelConfig& config,
                                                    const SafetensorsFile& file) {
  std::vector<DenseLayer> layers;
  std::set<std::string> used;
  for (;;) {
    const std::string prefix = absl::StrCat("layers.", layers.size());
    if (!Has(file, prefix + ".weight")) break;
    const std::string key = absl::StrCat("activations.", layers.size());
    const std::optional<std::string> text = Option(config, key);
    if (!text) {
      return Invalid(config.directory + "/config.yaml",
                     absl::StrCat("dense.activations: write one for each layer (none, relu, "
                                  "softmax); there is none for ",
                                  prefix));
    }
    absl::StatusOr<Activation> activation = ParseActivation(config, key, *text);
    if (!activation.ok()) return activation.status();
    DenseLayer layer{.weight = prefix + ".weight", .bias = {}, .activation = *activation};
    if (Has(file, prefix + ".bias")) layer.bias = prefix + ".bias";
    used.insert(layer.weight);
    used.insert(layer.bias.value_or(""));
    layers.push_back(std::move(layer));
  }
  for (const StoredTensor& tensor : file.tensors()) {
    if (used.contains(tensor.spec.name)) continue;
    return Invalid(file.path(), absl::StrCat("tensor '", absl::Utf8SafeCEscape(tensor.spec.name),
                                             "' belongs to no layer (layers.0.weight, "
                                             "layers.0.bias, layers.1.weight, ...); dense.layers "
                                             "in config.yaml can name others"));
  }
  if (layers.empty()) return Invalid(file.path(), "has no tensor 'layers.0.weight'");
  if (Option(config, absl::StrCat("activations.", layers.size()))) {
    return Invalid(config.directory + "/config.yaml",
                   absl::StrCat("dense.activations: more than the ", layers.size(), " layers of ",
                                file.path()));
  }
  return layers;
}

absl::Status CheckTensor(const SafetensorsFile& file, const StoredTensor& tensor, size_t rank) {
  const std::string name = absl::Utf8SafeCEscape(tensor.spec.name);
  if (tensor.spec.dtype != DType::kFloat32 || tensor.spec.shape.size() != rank ||
      tensor.bytes == 0) {
    return Invalid(file.path(), absl::StrCat("tensor '", name, "': expected float32",
                                             rank == 2 ? "[outputs, inputs]" : "[outputs]",
                                             ", found ", ToString(tensor.spec)));
  }
  return absl::OkStatus();
}

// Fills in the sizes from the file, and checks that each layer takes what the
// one before gives.
absl::Status MeasureLayers(const SafetensorsFile& file, std::vector<DenseLayer>& layers) {
  const DenseLayer* before = nullptr;
  for (DenseLayer& layer : layers) {
    const auto weight = file.Find(layer.weight);
    if (!weight.ok()) return weight.status();
    absl::Status checked = CheckTensor(file, **weight, 2);
    if (!checked.ok()) return checked;
    layer.outputs = static_cast<size_t>((*weight)->spec.shape[0]);
    layer.inputs = static_cast<size_t>((*weight)->spec.shape[1]);
    if (before != nullptr && before->outputs != layer.inputs) {
      return Invalid(
          file.path(),
          absl::StrCat("tensor '", absl::Utf8SafeCEscape(layer.weight), "' takes ", layer.inputs,
                       " inputs, but the layer before gives ", before->outputs));
    }
    before = &layer;
    if (!layer.bias) continue;
    const auto bias = file.Find(*layer.bias);
    if (!bias.ok()) return bias.status();
    checked = CheckTensor(file, **bias, 1);
    if (!checked.ok()) return checked;
    if ((*bias)->spec.shape[0] != (*weight)->spec.shape[0]) {
      return Invalid(file.path(),
                     absl::StrCat("tensor '", absl::Utf8SafeCEscape(*layer.bias), "' has ",
                                  (*bias)->spec.shape[0], " elements, but its layer has ",
                                  layer.outputs, " outputs"));
    }
  }
  return absl::OkStatus();
}

void LayOut(DensePlan& plan, bool on_gpu) {
  size_t floats = 0;
  size_t widest = on_gpu ? plan.layers.front().inputs : 0;
  for (DenseLayer& layer : plan.layers) {
    layer.weight_offset = floats;
    floats += Aligned(layer.inputs * kernels::PaddedColumns(layer.outputs));
    layer.bias_offset = floats;
    floats += Aligned(kernels::PaddedColumns(layer.outputs));
    widest = std::max(widest, layer.outputs);
  }
  plan.weight_floats = floats;
  plan.row_tile = on_gpu ? kGpuDenseRowTile : kDenseRowTile;
  for (size_t& offset : plan.scratch_offsets) {
    offset = floats;
    if (plan.layers.size() > 1 || on_gpu) floats += Aligned(plan.row_tile * widest);
  }
  plan.digest_offset = floats;
  if (on_gpu) floats += Aligned(sizeof(uint64_t) / sizeof(float));
  plan.total_floats = floats;
}

// The config may name the tensors and fix the batch.
absl::StatusOr<Signature> CheckSignature(const ModelConfig& config, int64_t inputs,
                                         int64_t outputs) {
  const Signature natural = {.inputs = {{"input", DType::kFloat32, {kDynamicDim, inputs}}},
                             .outputs = {{"output", DType::kFloat32, {kDynamicDim, outputs}}}};
  if (!config.signature) return natural;
  const auto fits = [](const std::vector<TensorSpec>& specs, const TensorSpec& wanted) {
    return specs.size() == 1 && specs[0].dtype == wanted.dtype && specs[0].shape.size() == 2 &&
           specs[0].shape[1] == wanted.shape[1];
  };
  const Signature& given = *config.signature;
  if (fits(given.inputs, natural.inputs[0]) && fits(given.outputs, natural.outputs[0]) &&
      given.inputs[0].shape[0] == given.outputs[0].shape[0]) {
    return given;
  }
  return Invalid(
      config.directory + "/config.yaml",
      absl::StrCat("signature: the weights take one tensor \"", ToString(natural.inputs[0]),
                   "\" and give one \"", ToString(natural.outputs[0]),
                   "\"; choose the names and the first dimension, the same for both"));
}

}  // namespace

absl::StatusOr<DensePlan> PlanDenseModel(const ModelConfig& config, const SafetensorsFile& file) {
  absl::StatusOr<std::vector<DenseLayer>> layers = ListedLayers(config);
  if (layers.ok() && !layers->empty() && Option(config, "activations.0")) {
    return Invalid(config.directory + "/config.yaml",
                   "dense: give either 'layers' or 'activations'");
  }
  if (layers.ok() && layers->empty()) layers = NamedLayers(config, file);
  if (!layers.ok()) return layers.status();
  DensePlan plan;
  plan.layers = *std::move(layers);
  absl::Status measured = MeasureLayers(file, plan.layers);
  if (!measured.ok()) return measured;
  absl::StatusOr<Signature> signature =
      CheckSignature(config, static_cast<int64_t>(plan.layers.front().inputs),
                     static_cast<int64_t>(plan.layers.back().outputs));
  if (!signature.ok()) return signature.status();
  plan.signature = *std::move(signature);
  LayOut(plan, /*on_gpu=*/config.device != "host");
  return plan;
}

}  // namespace baton::loader

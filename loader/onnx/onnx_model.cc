#include "loader/onnx/onnx_model.h"

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "loader/onnx/onnx_options.h"
#include "loader/onnx/onnx_session.h"
#include "loader/onnx/onnx_signature.h"

namespace baton::loader {
namespace {

using Shape = std::vector<int64_t>;

// Output shapes are remembered for this many combinations of input shapes.
constexpr size_t kMaxCachedShapes = 256;

bool IsFixed(const Shape& shape) {
  // Rank 0 may be "rank unknown": onnx_signature.h.
  return !shape.empty() &&
         std::none_of(shape.begin(), shape.end(), [](int64_t dim) { return dim == kDynamicDim; });
}

bool Matches(const Shape& shape, const Shape& spec) {
  if (spec.empty()) return shape.size() <= kMaxRank;
  return std::equal(
      shape.begin(), shape.end(), spec.begin(), spec.end(),
      [](int64_t dim, int64_t wanted) { return dim == wanted || wanted == kDynamicDim; });
}

class OnnxModel final : public Model {
 public:
  OnnxModel(const ModelConfig& config, const OnnxOptions& options, Ort::Session session,
            Signature signature)
      : name_(config.name),
        cache_shapes_(options.shapes_by_input_shapes),
        session_(std::move(session)),
        signature_(std::move(signature)),
        memory_(Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault)) {
    for (const TensorSpec& spec : signature_.inputs) input_names_.push_back(spec.name.c_str());
    for (const TensorSpec& spec : signature_.outputs) output_names_.push_back(spec.name.c_str());
    inputs_.reserve(signature_.inputs.size());
    outputs_.reserve(signature_.outputs.size());
    blocks_.resize(signature_.outputs.size());
  }

  const Signature& signature() const override { return signature_; }
  uint64_t device_bytes() const override { return 0; }

  absl::Status Upload(const DeviceRegion&) override {
    if (state_ != State::kStaged) return OutOfOrder("Upload");
    state_ = State::kUploaded;
    return absl::OkStatus();
  }

  absl::Status Run(std::span<const TensorView> inputs, OutputSink& sink) override {
    if (state_ != State::kUploaded) return OutOfOrder("Run");
    absl::Status status;
    try {
      status = RunOrThrow(inputs, sink);
    } catch (const Ort::Exception& error) {
      status = RunFailed(StatusFromOnnx(error, absl::StrCat("onnx model '", name_, "'")));
    } catch (const std::exception& error) {
      status = absl::InternalError(absl::StrCat("onnx model '", name_, "': ", error.what()));
    }
    // The values point into blocks that are the caller's again when we return.
    inputs_.clear();
    outputs_.clear();
    return status;
  }

  void Cleanup() override {
    state_ = State::kCleaned;
    session_ = Ort::Session(nullptr);
  }

 private:
  enum class State { kStaged, kUploaded, kCleaned };

  // How far an output's memory was settled before this run.
  struct Block {
    bool allocated = false;  // Allocate was called
    bool cached = false;     // with a shape from the cache
  };

  absl::Status OutOfOrder(const std::string& call) const {
    return absl::FailedPreconditionError(absl::StrCat(
        "onnx model '", name_, "': ", call, " out of order; the order is Upload, Run..., Cleanup"));
  }

  absl::Status RunOrThrow(std::span<const TensorView> inputs, OutputSink& sink) {
    if (inputs.size() != signature_.inputs.size()) {
      return absl::InvalidArgumentError(absl::StrCat("onnx model '", name_, "' takes ",
                                                     signature_.inputs.size(), " inputs, not ",
                                                     inputs.size()));
    }
    std::fill(blocks_.begin(), blocks_.end(), Block());
    key_.clear();
    for (const TensorView& input : inputs) {
      inputs_.push_back(Bind(input.dtype, input.shape, input.bytes));
      key_.insert(key_.end(), input.shape.begin(), input.shape.end());
      key_.push_back(-1);  // separates shapes: no dimension of an input is negative
    }
    absl::Status too_small;
    bool all_known = true;
    if (absl::Status bound = BindKnownOutputs(sink, too_small, all_known); !bound.ok()) {
      return bound;
    }
    if (all_known && !too_small.ok()) return too_small;
    // With an output of unknown size the needed size is complete only after a run.
    session_.Run(run_options_, input_names_.data(), inputs_.data(), inputs_.size(),
                 output_names_.data(), outputs_.data(), outputs_.size());
    return CollectOutputs(sink, std::move(too_small));
  }

  Ort::Value Bind(DType dtype, std::span<const int64_t> shape, std::span<const std::byte> bytes) {
    // ONNX Runtime takes a mutable pointer but never writes to a graph's inputs.
    // It refuses null, which an empty tensor may have.
    static std::byte nothing;
    void* data = bytes.empty() ? &nothing : const_cast<std::byte*>(bytes.data());
    return Ort::Value::CreateTensor(memory_, data, bytes.size(), shape.data(), shape.size(),
                                    OnnxFromDType(dtype));
  }

  absl::Status BindKnownOutputs(OutputSink& sink, absl::Status& too_small, bool& all_known) {
    const auto seen = cache_shapes_ ? shapes_.find(key_) : shapes_.end();
    for (size_t i = 0; i < signature_.outputs.size(); ++i) {
      const TensorSpec& spec = signature_.outputs[i];
      outputs_.emplace_back(nullptr);  // ONNX Runtime allocates
      const bool fixed = IsFixed(spec.shape);
      if (!fixed && seen == shapes_.end()) {
        all_known = false;
        continue;
      }
      const Shape& shape = fixed ? spec.shape : seen->second[i];
      blocks_[i].allocated = true;
      blocks_[i].cached = !fixed;
      auto memory = sink.Allocate(i, shape);
      if (memory.ok()) {
        outputs_.back() = Bind(spec.dtype, shape, *memory);
      } else if (absl::IsResourceExhausted(memory.status())) {
        too_small = memory.status();
      } else {
        return memory.status();
      }
    }
    return absl::OkStatus();
  }

  // Copies what ONNX Runtime allocated into the sink, and learns its shapes.
  absl::Status CollectOutputs(OutputSink& sink, absl::Status too_small) {
    bool learn = false;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (blocks_[i].allocated) continue;
      const TensorSpec& spec = signature_.outputs[i];
      const auto info = outputs_[i].GetTensorTypeAndShapeInfo();
      const Shape shape = info.GetShape();
      if (DTypeFromOnnx(info.GetElementType()) != spec.dtype || !Matches(shape, spec.shape)) {
        return absl::InternalError(absl::StrCat("onnx model '", name_, "' gave '", spec.name,
                                                "' the shape [", absl::StrJoin(shape, ", "),
                                                "], its signature says ", ToString(spec)));
      }
      auto memory = sink.Allocate(i, shape);
      if (absl::IsResourceExhausted(memory.status())) {
        too_small = memory.status();
        continue;
      }
      if (!memory.ok()) return memory.status();
      if (!memory->empty()) {
        std::memcpy(memory->data(), outputs_[i].GetTensorRawData(), memory->size());
      }
      learn = true;
    }
    if (too_small.ok() && learn && cache_shapes_) Learn();
    return too_small;
  }

  void Learn() {
    if (shapes_.size() >= kMaxCachedShapes) shapes_.clear();
    std::vector<Shape>& shapes = shapes_[key_];
    shapes.clear();
    for (const Ort::Value& output : outputs_) {
      shapes.push_back(output.GetTensorTypeAndShapeInfo().GetShape());
    }
  }

  absl::Status RunFailed(absl::Status status) {
    const bool cached =
        std::any_of(blocks_.begin(), blocks_.end(), [](const Block& b) { return b.cached; });
    if (!cached || !cache_shapes_) return status;
    // Perhaps the promise of `by_input_shapes` was wrong. Being right costs a copy a request
    // from here on; guessing again could fail every second one.
    cache_shapes_ = false;
    shapes_.clear();
    return absl::InternalError(absl::StrCat(
        std::string(status.message()),
        " (outputs were bound with the shapes of an earlier request, as `output_shapes:"
        " by_input_shapes` in config.yaml allows; from now on they are not. If the output shapes"
        " depend on values, remove that option)"));
  }

  const std::string name_;
  bool cache_shapes_;
  State state_ = State::kStaged;
  Ort::Session session_;
  const Signature signature_;
  const Ort::MemoryInfo memory_;
  const Ort::RunOptions run_options_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  // Scratch of Run, kept for its capacity.
  std::vector<Ort::Value> inputs_;
  std::vector<Ort::Value> outputs_;
  std::vector<Block> blocks_;
  Shape key_;
  // Input shapes, each closed by -1, to the shapes of all outputs.
  std::map<Shape, std::vector<Shape>> shapes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> StageOnnxModel(const ModelConfig& config) {
  if (config.device != "host") {
    return absl::UnimplementedError(absl::StrCat(config.directory,
                                                 "/config.yaml: device: ", config.device,
                                                 ": the onnx loader serves `device: host` only"));
  }
  auto options = ParseOnnxOptions(config);
  if (!options.ok()) return options.status();
  auto session = OpenOnnxSession(config, *options);
  if (!session.ok()) return session.status();
  try {
    auto signature = SignatureOfSession(*session, config.file);
    if (signature.ok() && config.signature.has_value()) {
      signature = AgreeOnSignature(*signature, *config.signature, config.file);
    }
    if (!signature.ok()) return signature.status();
    return std::make_unique<OnnxModel>(config, *options, *std::move(session),
                                       *std::move(signature));
  } catch (const Ort::Exception& error) {
    return StatusFromOnnx(error, config.file);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(config.file, ": ", error.what()));
  }
}

}  // namespace baton::loader

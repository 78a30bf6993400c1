#include "loader/native/native_model.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "baton/model_abi.h"
#include "loader/native/native_library.h"

namespace baton::loader {
namespace {

constexpr char kOptionPrefix[] = "options.";

// The text of an error, and the status that it makes.
class ErrorBuffer {
 public:
  ErrorBuffer() : error_{sizeof(BatonError), sizeof(text_), text_} { text_[0] = '\0'; }
  ErrorBuffer(const ErrorBuffer&) = delete;
  ErrorBuffer& operator=(const ErrorBuffer&) = delete;

  // To hand to the library; empties the text.
  BatonError* Clear() {
    text_[0] = '\0';
    return &error_;
  }

  absl::Status ToStatus(int32_t code, const std::string& model) {
    if (code == BATON_OK) return absl::OkStatus();
    text_[sizeof(text_) - 1] = '\0';
    constexpr int32_t kLastCode = 16;  // UNAUTHENTICATED
    const bool known = code > 0 && code <= kLastCode;
    return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kInternal,
                        absl::StrCat("model '", model, "': ",
                                     text_[0] == '\0' ? absl::StrCat("failed with code ", code)
                                                      : std::string(text_)));
  }

 private:
  char text_[2048];
  BatonError error_;
};

// Passes a status on to the library.
int32_t Tell(const absl::Status& status, BatonError* error) {
  if (!status.ok() && error != nullptr && error->message != nullptr && error->capacity > 0) {
    std::snprintf(error->message, error->capacity, "%.*s",
                  static_cast<int>(status.message().size()), status.message().data());
  }
  return static_cast<int32_t>(status.code());
}

int32_t CopyToRegion(void* context, uint64_t to, const void* from, uint64_t bytes,
                     BatonError* error) {
  const auto& region = *static_cast<const DeviceRegion*>(context);
  if (to < region.address || to - region.address > region.bytes ||
      bytes > region.bytes - (to - region.address)) {
    return Tell(absl::OutOfRangeError("a copy outside the device region"), error);
  }
  return Tell(region.device->CopyToDevice(to, {static_cast<const std::byte*>(from), bytes}), error);
}

// Outputs of one run.
struct RunOutputs {
  OutputSink* sink = nullptr;
  absl::Status failed;  // the first that Allocate gave
};

int32_t AllocateOutput(void* context, uint32_t index, const int64_t* shape, uint32_t rank,
                       void** data, uint64_t* bytes, BatonError* error) {
  auto& run = *static_cast<RunOutputs*>(context);
  if (rank > kMaxRank) {
    return Tell(absl::InvalidArgumentError(absl::StrCat("more than ", kMaxRank, " dimensions")),
                error);
  }
  absl::StatusOr<std::span<std::byte>> block = run.sink->Allocate(index, {shape, rank});
  if (!block.ok()) {
    run.failed.Update(block.status());
    return Tell(block.status(), error);
  }
  *data = block->data();
  *bytes = block->size();
  return BATON_OK;
}

void ToC(std::span<const TensorView> inputs, std::vector<BatonTensor>& to) {
  to.resize(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorView& input = inputs[i];
    to[i] = {.name = input.name.data(),
             .name_bytes = input.name.size(),
             .shape = input.shape.data(),
             .data = input.bytes.data(),
             .bytes = input.bytes.size(),
             .rank = static_cast<uint32_t>(input.shape.size()),
             .dtype = static_cast<uint32_t>(input.dtype)};
  }
}

// Has `call(const BatonOutputs*)` of the library write into `sink`. What the sink
// said is more than what comes back through the library; and results without their
// outputs are none, whatever the library thinks.
template <typename Call>
absl::Status WithOutputs(OutputSink& sink, ErrorBuffer& error, const std::string& model,
                         Call&& call) {
  RunOutputs run{.sink = &sink, .failed = {}};
  const BatonOutputs c_outputs = {.struct_size = sizeof(BatonOutputs),
                                  .reserved = 0,
                                  .context = &run,
                                  .allocate = AllocateOutput};
  const int32_t code = call(&c_outputs);
  if (!run.failed.ok() && (code == BATON_OK || code == static_cast<int32_t>(run.failed.code()))) {
    return run.failed;
  }
  return error.ToStatus(code, model);
}

class NativeStream final : public ModelStream {
 public:
  NativeStream(const BatonModelApi* api, std::string model, ItemSource& source)
      : api_(api), model_(std::move(model)), source_(source) {
    items_ = {.struct_size = sizeof(BatonItems), .reserved = 0, .context = this, .next = NextItem};
  }
  ~NativeStream() override {
    if (stream_ != nullptr) api_->end_stream(stream_);
  }
  NativeStream(const NativeStream&) = delete;
  NativeStream& operator=(const NativeStream&) = delete;

  absl::Status Start(void* model, uint32_t method, std::span<const TensorView> inputs) {
    ToC(inputs, inputs_);
    const int32_t code =
        api_->start_stream(model, method, inputs_.data(), static_cast<uint32_t>(inputs_.size()),
                           &items_, &stream_, error_.Clear());
    if (code == BATON_OK && stream_ == nullptr) {
      return absl::InternalError(absl::StrCat("model '", model_, "': started no stream"));
    }
    return error_.ToStatus(code, model_);
  }

  absl::StatusOr<bool> Next(OutputSink& outputs) override {
    int32_t given = 0;
    absl::Status status = WithOutputs(outputs, error_, model_, [&](const BatonOutputs* c_outputs) {
      return api_->next(stream_, c_outputs, &given, error_.Clear());
    });
    if (!status.ok()) return status;
    return given != 0;
  }

 private:
  static int32_t NextItem(void* context, const BatonTensor** inputs, uint32_t* count,
                          int32_t* there, BatonError* error) {
    auto& stream = *static_cast<NativeStream*>(context);
    const absl::StatusOr<std::optional<std::span<const TensorView>>> item = stream.source_.Next();
    if (!item.ok()) return Tell(item.status(), error);
    *there = item->has_value() ? 1 : 0;
    if (!item->has_value()) return BATON_OK;
    ToC(**item, stream.item_);
    *inputs = stream.item_.data();
    *count = static_cast<uint32_t>(stream.item_.size());
    return BATON_OK;
  }

  const BatonModelApi* const api_;
  const std::string model_;
  ItemSource& source_;
  BatonItems items_ = {};
  void* stream_ = nullptr;
  std::vector<BatonTensor> inputs_;  // as long as the stream lives
  std::vector<BatonTensor> item_;
  ErrorBuffer error_;
};

class NativeModel final : public Model {
 public:
  NativeModel(const ModelConfig& config, const BatonModelApi* api)
      : name_(config.name), file_(config.file), api_(api) {}
  ~NativeModel() override {
    if (model_ != nullptr) api_->destroy(model_);
  }

  absl::Status Stage(const ModelConfig& config);

  const Signature& signature() const override { return signature_; }
  uint64_t device_bytes() const override { return device_bytes_; }
  absl::Status Upload(const DeviceRegion& region) override;
  absl::Status Run(std::span<const TensorView> inputs, OutputSink& outputs) override;
  std::span<const Method> methods() const override { return methods_; }
  absl::Status RunMethod(size_t method, CallContext& call, std::span<const TensorView> inputs,
                         OutputSink& outputs) override;
  absl::StatusOr<std::unique_ptr<ModelStream>> StartStream(size_t method, CallContext& call,
                                                           std::span<const TensorView> inputs,
                                                           ItemSource& items) override;
  size_t max_streams() const override { return max_streams_; }
  void Cleanup() override;

 private:
  absl::Status StageMethods();

  const std::string name_;
  const std::string file_;
  const BatonModelApi* const api_;
  void* model_ = nullptr;
  Signature signature_;
  std::vector<Method> methods_;
  size_t max_streams_ = 1;
  uint64_t device_bytes_ = 0;
  bool uploaded_ = false;
  std::vector<BatonTensor> inputs_;  // of one run; kept, so that Run allocates nothing
  ErrorBuffer error_;
};

absl::Status NativeModel::Stage(const ModelConfig& config) {
  std::vector<BatonOption> options;
  for (const auto& [key, value] : config.options) {
    if (!key.starts_with(kOptionPrefix)) continue;
    options.push_back({key.c_str() + sizeof(kOptionPrefix) - 1, value.c_str()});
  }
  const BatonStageArgs args = {.struct_size = sizeof(BatonStageArgs),
                               .abi_version = BATON_MODEL_ABI_VERSION,
                               .name = config.name.c_str(),
                               .directory = config.directory.c_str(),
                               .device = config.device.c_str(),
                               .options = options.data(),
                               .option_count = options.size()};
  absl::Status status = error_.ToStatus(api_->stage(&args, &model_, error_.Clear()), config.name);
  if (!status.ok()) return status;
  if (model_ == nullptr) return absl::InternalError(absl::StrCat(file_, ": staged no model"));

  const BatonSignature* signature = nullptr;
  status = error_.ToStatus(api_->signature(model_, &signature, error_.Clear()), name_);
  if (!status.ok()) return status;
  absl::StatusOr<Signature> read = ReadSignature(file_, signature);
  if (!read.ok()) return read.status();
  signature_ = *std::move(read);
  if (config.signature && *config.signature != signature_) {
    const auto text = [](const Signature& s) {
      const auto join = [](const std::vector<TensorSpec>& specs) {
        return absl::StrJoin(specs, ", ", [](std::string* out, const TensorSpec& spec) {
          out->append(ToString(spec));
        });
      };
      return absl::StrCat("(", join(s.inputs), ") -> (", join(s.outputs), ")");
    };
    return absl::InvalidArgumentError(absl::StrCat(
        config.directory, "/config.yaml: signature: says ", text(*config.signature), ", but ",
        file_, " has ", text(signature_), "; leave it out, the library knows its own"));
  }
  inputs_.resize(signature_.inputs.size());
  if (absl::Status status_of_methods = StageMethods(); !status_of_methods.ok()) {
    return status_of_methods;
  }
  return error_.ToStatus(api_->device_bytes(model_, &device_bytes_, error_.Clear()), name_);
}

absl::Status NativeModel::Upload(const DeviceRegion& region) {
  if (uploaded_ || region.bytes < device_bytes_ ||
      (device_bytes_ > 0 && region.device == nullptr)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "model '", name_, "': Upload is called once, with a region of ", device_bytes_, " bytes"));
  }
  DeviceRegion target = region;
  const std::string device = region.device == nullptr ? "" : std::string(region.device->name());
  const BatonDeviceRegion c_region = {.struct_size = sizeof(BatonDeviceRegion),
                                      .reserved = 0,
                                      .address = region.address,
                                      .bytes = region.bytes,
                                      .device = device.c_str(),
                                      .context = &target,
                                      .copy = CopyToRegion};
  absl::Status status = error_.ToStatus(api_->upload(model_, &c_region, error_.Clear()), name_);
  uploaded_ = status.ok();
  return status;
}

absl::Status NativeModel::Run(std::span<const TensorView> inputs, OutputSink& outputs) {
  if (!uploaded_ || inputs.size() != inputs_.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("model '", name_, "': Run before Upload or after Cleanup, or not with its ",
                     inputs_.size(), " inputs"));
  }
  ToC(inputs, inputs_);
  return WithOutputs(outputs, error_, name_, [&](const BatonOutputs* c_outputs) {
    return api_->run(model_, inputs_.data(), static_cast<uint32_t>(inputs_.size()), c_outputs,
                     error_.Clear());
  });
}

absl::Status NativeModel::StageMethods() {
  if (!HasMethods(*api_)) return absl::OkStatus();
  const BatonMethod* methods = nullptr;
  uint32_t count = 0;
  absl::Status status =
      error_.ToStatus(api_->methods(model_, &methods, &count, error_.Clear()), name_);
  if (!status.ok()) return status;
  absl::StatusOr<std::vector<Method>> read = ReadMethods(file_, methods, count);
  if (!read.ok()) return read.status();
  methods_ = *std::move(read);
  if (!methods_.empty()) signature_ = methods_.front().signature;  // it says more
  max_streams_ = std::max<size_t>(api_->max_streams(model_), 1);
  return absl::OkStatus();
}

absl::Status NativeModel::RunMethod(size_t method, CallContext&, std::span<const TensorView> inputs,
                                    OutputSink& outputs) {
  if (!uploaded_ || method >= methods_.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("model '", name_, "': method ", method, " of ", methods_.size(),
                     " is run before Upload or after Cleanup, or is not there"));
  }
  ToC(inputs, inputs_);
  return WithOutputs(outputs, error_, name_, [&](const BatonOutputs* c_outputs) {
    return api_->run_method(model_, static_cast<uint32_t>(method), inputs_.data(),
                            static_cast<uint32_t>(inputs_.size()), c_outputs, error_.Clear());
  });
}

absl::StatusOr<std::unique_ptr<ModelStream>> NativeModel::StartStream(
    size_t method, CallContext&, std::span<const TensorView> inputs, ItemSource& items) {
  if (!uploaded_ || method >= methods_.size() || !methods_[method].streams()) {
    return absl::FailedPreconditionError(
        absl::StrCat("model '", name_, "': method ", method, " of ", methods_.size(),
                     " is started before Upload or after Cleanup, or does not stream"));
  }
  auto stream = std::make_unique<NativeStream>(api_, name_, items);
  absl::Status started = stream->Start(model_, static_cast<uint32_t>(method), inputs);
  if (!started.ok()) return started;
  return stream;
}

void NativeModel::Cleanup() {
  if (model_ == nullptr) return;
  uploaded_ = false;
  const absl::Status status = error_.ToStatus(api_->cleanup(model_, error_.Clear()), name_);
  if (!status.ok()) {
    std::fprintf(stderr, "Cleanup failed, going on: %s\n", status.ToString().c_str());
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> StageNativeModel(const ModelConfig& config) {
  absl::StatusOr<const BatonModelApi*> api = OpenNativeLibrary(config.file);
  if (!api.ok()) return api.status();
  auto model = std::make_unique<NativeModel>(config, *api);
  absl::Status staged = model->Stage(config);
  if (!staged.ok()) return staged;
  return model;
}

}  // namespace baton::loader

#include "loader/native/native_model.h"

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
  void Cleanup() override;

 private:
  const std::string name_;
  const std::string file_;
  const BatonModelApi* const api_;
  void* model_ = nullptr;
  Signature signature_;
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
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorView& input = inputs[i];
    inputs_[i] = {.name = input.name.data(),
                  .name_bytes = input.name.size(),
                  .shape = input.shape.data(),
                  .data = input.bytes.data(),
                  .bytes = input.bytes.size(),
                  .rank = static_cast<uint32_t>(input.shape.size()),
                  .dtype = static_cast<uint32_t>(input.dtype)};
  }
  RunOutputs run{.sink = &outputs, .failed = {}};
  const BatonOutputs c_outputs = {.struct_size = sizeof(BatonOutputs),
                                  .reserved = 0,
                                  .context = &run,
                                  .allocate = AllocateOutput};
  const int32_t code = api_->run(model_, inputs_.data(), static_cast<uint32_t>(inputs_.size()),
                                 &c_outputs, error_.Clear());
  // What the sink said is more than what comes back through the library; and a
  // run without its outputs is none, whatever the library thinks.
  if (!run.failed.ok() && (code == BATON_OK || code == static_cast<int32_t>(run.failed.code()))) {
    return run.failed;
  }
  return error_.ToStatus(code, name_);
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

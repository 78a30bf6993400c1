#include "runtime/worker/redacted_model.h"

#include <exception>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/redact.h"

namespace baton::runtime {
namespace {

class RedactedModel final : public loader::Model {
 public:
  RedactedModel(std::unique_ptr<loader::Model> model, const std::vector<std::string>& secrets)
      : model_(std::move(model)), secrets_(secrets.begin(), secrets.end()) {}

  const Signature& signature() const override { return model_->signature(); }
  uint64_t device_bytes() const override { return model_->device_bytes(); }
  absl::Status Upload(const loader::DeviceRegion& region) override {
    return model_->Upload(region);
  }
  bool takes_device_inputs() const override { return model_->takes_device_inputs(); }
  void Cleanup() override { model_->Cleanup(); }
  std::span<const Method> methods() const override { return model_->methods(); }
  bool may_warm_up() const override { return model_->may_warm_up(); }
  size_t max_streams() const override { return model_->max_streams(); }
  bool concurrent_calls() const override { return model_->concurrent_calls(); }

  absl::Status Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    return WithoutSecrets([&] { return model_->Run(inputs, outputs); });
  }

  absl::Status RunMethod(size_t method, loader::CallContext& call,
                         std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    return WithoutSecrets([&] { return model_->RunMethod(method, call, inputs, outputs); });
  }

  absl::StatusOr<std::unique_ptr<loader::ModelStream>> StartStream(
      size_t method, loader::CallContext& call, std::span<const TensorView> inputs,
      loader::ItemSource& items) override {
    std::unique_ptr<loader::ModelStream> stream;
    const absl::Status status = WithoutSecrets([&] {
      absl::StatusOr<std::unique_ptr<loader::ModelStream>> started =
          model_->StartStream(method, call, inputs, items);
      if (started.ok()) stream = *std::move(started);
      return started.status();
    });
    if (!status.ok()) return status;
    return std::make_unique<Stream>(*this, std::move(stream));
  }

 private:
  class Stream final : public loader::ModelStream {
   public:
    Stream(const RedactedModel& model, std::unique_ptr<loader::ModelStream> stream)
        : model_(model), stream_(std::move(stream)) {}
    absl::StatusOr<bool> Next(loader::OutputSink& outputs) override {
      bool more = false;
      const absl::Status status = model_.WithoutSecrets([&] {
        const absl::StatusOr<bool> next = stream_->Next(outputs);
        if (next.ok()) more = *next;
        return next.status();
      });
      if (!status.ok()) return status;
      return more;
    }

   private:
    const RedactedModel& model_;
    const std::unique_ptr<loader::ModelStream> stream_;
  };

  template <typename Call>
  absl::Status WithoutSecrets(Call&& call) const {
    absl::Status status;
    try {
      status = call();
    } catch (const std::exception& error) {
      status = absl::InternalError(absl::StrCat("the model threw: ", error.what()));
    }
    if (status.ok()) return status;
    return absl::Status(status.code(), ipc::Redacted(std::string(status.message()), secrets_));
  }

  const std::unique_ptr<loader::Model> model_;
  const std::vector<std::string_view> secrets_;
};

}  // namespace

std::unique_ptr<loader::Model> Redact(std::unique_ptr<loader::Model> model,
                                      const std::vector<std::string>& secrets) {
  if (secrets.empty()) return model;
  return std::make_unique<RedactedModel>(std::move(model), secrets);
}

}  // namespace baton::runtime

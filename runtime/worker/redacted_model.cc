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
  void Cleanup() override { model_->Cleanup(); }

  absl::Status Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    absl::Status status;
    try {
      status = model_->Run(inputs, outputs);
    } catch (const std::exception& error) {
      status = absl::InternalError(absl::StrCat("the model threw: ", error.what()));
    }
    if (status.ok()) return status;
    return absl::Status(status.code(), ipc::Redacted(std::string(status.message()), secrets_));
  }

 private:
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

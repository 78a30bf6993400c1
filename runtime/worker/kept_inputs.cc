#include "runtime/worker/kept_inputs.h"

#include <utility>

namespace baton::runtime {

KeptInputs::KeptInputs() : shared_(std::make_shared<Shared>()) {}

KeptInputs::~KeptInputs() {
  const std::lock_guard lock(shared_->mutex);
  shared_->host = nullptr;
}

void KeptInputs::Join(ServingHost& host) {
  const std::lock_guard lock(shared_->mutex);
  shared_->host = &host;
}

KeptInputs::Token::~Token() {
  const std::lock_guard lock(shared->mutex);
  if (!answered || shared->host == nullptr) return;
  shared->released.push_back(request_id);
  // Under the lock: the host is there as long as this is not taken from it.
  shared->host->InputsReleased();
}

std::shared_ptr<void> KeptInputs::Call::KeepInputs() {
  std::shared_ptr<Token> token = token_.lock();
  if (token == nullptr) {
    token = std::make_shared<Token>(kept_.shared_, request_id_);
    token_ = token;
  }
  return token;
}

bool KeptInputs::Call::Answered() {
  const std::shared_ptr<Token> token = token_.lock();
  if (token == nullptr) return false;
  ++kept_.count_;
  const std::lock_guard lock(kept_.shared_->mutex);
  token->answered = true;
  return true;
}

std::vector<uint64_t> KeptInputs::TakeReleased() {
  const std::lock_guard lock(shared_->mutex);
  count_ -= shared_->released.size();
  return std::exchange(shared_->released, {});
}

}  // namespace baton::runtime

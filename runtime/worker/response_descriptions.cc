#include "runtime/worker/response_descriptions.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::runtime {

ResponseDescriptions::ResponseDescriptions(const Signature& signature)
    : signature_(signature), reserve_bytes_(ipc::DescriptorReserve(signature.outputs)) {
  prepared_.reserve(kMaxPrepared);
}

absl::StatusOr<const ResponseDescriptions::Prepared*> ResponseDescriptions::Get(
    const std::vector<WrittenOutput>& outputs) {
  // The last one first: most models answer in one shape.
  if (last_ < prepared_.size() && prepared_[last_].outputs == outputs) return &prepared_[last_];
  for (size_t i = 0; i < prepared_.size(); ++i) {
    if (prepared_[i].outputs == outputs) {
      last_ = i;
      return &prepared_[i];
    }
  }
  std::vector<ipc::TensorLayout> layouts;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const WrittenOutput& output = outputs[i];
    layouts.push_back({.name = signature_.outputs[i].name,
                       .dtype = output.dtype,
                       .shape = {output.shape.begin(), output.shape.begin() + output.rank},
                       .offset = output.offset,
                       .bytes = output.bytes,
                       .on_device = output.on_device});
  }
  absl::StatusOr<ipc::DescriptorBytes> bytes = ipc::EncodeResponse(layouts);
  if (!bytes.ok()) return bytes.status();
  if (bytes->size() > reserve_bytes_) {
    return absl::InternalError(absl::StrCat("a description of ", bytes->size(),
                                            " bytes exceeds the ", reserve_bytes_, " set aside"));
  }
  Prepared prepared{.outputs = outputs, .bytes = *std::move(bytes), .token = next_token_++};
  if (prepared_.size() < kMaxPrepared) {
    prepared_.push_back(std::move(prepared));
    last_ = prepared_.size() - 1;
  } else {
    last_ = evict_;
    evict_ = (evict_ + 1) % kMaxPrepared;
    prepared_[last_] = std::move(prepared);
  }
  return &prepared_[last_];
}

}  // namespace baton::runtime

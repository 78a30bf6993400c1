#include "runtime/worker/response_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/channel_layout.h"

namespace baton::runtime {

ResponseWriter::ResponseWriter(const Signature& signature, ResponseDescriptions& descriptions)
    : signature_(signature),
      descriptions_(descriptions),
      reserve_(descriptions.reserve_bytes()),
      outputs_(signature.outputs.size()) {}

void ResponseWriter::BeginIn(std::span<std::byte> block) {
  block_ = block;
  cursor_ = on_device() ? 0 : reserve_;
  repeats_ = {};
  bounced_.clear();
  placed_ = 0;
  for (WrittenOutput& output : outputs_) output.there = false;
}

absl::Status ResponseWriter::Learn(size_t index, DType dtype, std::span<const int64_t> shape) {
  const TensorSpec& spec = signature_.outputs[index];
  const std::optional<uint64_t> bytes = TensorBytes(dtype, shape);
  if (!Fits(spec, dtype, shape) || !bytes || *bytes > (uint64_t{1} << 46)) {
    return absl::InternalError(absl::StrCat(
        "the model gave ", ToString(TensorSpec{spec.name, dtype, {shape.begin(), shape.end()}}),
        ", its signature says ", ToString(spec)));
  }
  WrittenOutput& output = outputs_[index];
  output.dtype = dtype;
  output.rank = static_cast<uint32_t>(shape.size());
  // All of it: what was described before is known by it.
  const auto rest = std::copy(shape.begin(), shape.end(), output.shape.begin());
  std::fill(rest, output.shape.end(), 0);
  output.bytes = *bytes;
  return absl::OkStatus();
}

absl::Status ResponseWriter::Place(size_t index, DType dtype, std::span<const int64_t> shape) {
  if (index >= outputs_.size() || outputs_[index].there) {
    return absl::InternalError(absl::StrCat("the model asked for output ", index,
                                            " twice, or has no such output: it has ",
                                            outputs_.size()));
  }
  WrittenOutput& output = outputs_[index];
  // Most are what they were the last time; what was not found right then is kInvalid.
  bool same = output.dtype == dtype && dtype != DType::kInvalid && output.rank == shape.size();
  // Not std::equal, which calls memcmp for one or two numbers.
  for (size_t i = 0; same && i < shape.size(); ++i) same = shape[i] == output.shape[i];
  if (!same) {
    if (absl::Status learned = Learn(index, dtype, shape); !learned.ok()) return learned;
  }
  if (!same || output.offset != cursor_ || output.on_device != on_device()) changed_ = true;
  output.there = true;
  ++placed_;
  output.offset = cursor_;
  output.on_device = on_device();
  cursor_ = ipc::RoundUpToGranules(cursor_ + output.bytes);
  const uint64_t room = on_device() ? device_.bytes : block_.size();
  if (output.offset + output.bytes > room) {
    return absl::ResourceExhaustedError(absl::StrCat("the results need a block of at least ",
                                                     cursor_, " bytes, ", room, " were loaned"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<std::byte>> ResponseWriter::AllocateAs(size_t index, DType dtype,
                                                                std::span<const int64_t> shape) {
  if (absl::Status placed = Place(index, dtype, shape); !placed.ok()) return placed;
  const WrittenOutput& output = outputs_[index];
  if (!on_device()) return block_.subspan(output.offset, output.bytes);
  if (device_.device->name() == "host") {  // there an address is a pointer
    return std::span(reinterpret_cast<std::byte*>(device_.address + output.offset), output.bytes);
  }
  bounce_.resize(outputs_.size());
  std::vector<std::byte>& bounce = bounce_[index];
  if (bounce.size() < output.bytes) bounce.resize(output.bytes);
  bounced_.push_back(index);
  return std::span(bounce).first(output.bytes);
}

absl::StatusOr<std::span<std::byte>> ResponseWriter::Allocate(size_t index,
                                                              std::span<const int64_t> shape) {
  return AllocateAs(index, SpecDType(index), shape);
}

absl::StatusOr<uint64_t> ResponseWriter::AllocateOnDevice(size_t index,
                                                          std::span<const int64_t> shape) {
  if (!on_device()) return absl::InternalError("the results of this request go to the host");
  if (absl::Status placed = Place(index, SpecDType(index), shape); !placed.ok()) return placed;
  return device_.address + outputs_[index].offset;
}

absl::Status ResponseWriter::CopyToDevice() {
  for (const size_t index : bounced_) {
    const WrittenOutput& output = outputs_[index];
    absl::Status copied = device_.device->CopyToDevice(
        device_.address + output.offset, std::span(bounce_[index]).first(output.bytes));
    if (!copied.ok()) return copied;
  }
  return absl::OkStatus();
}

absl::Status ResponseWriter::Describe() {
  const auto missing = std::find_if(outputs_.begin(), outputs_.end(),
                                    [](const auto& output) { return !output.there; });
  if (missing != outputs_.end()) {
    const auto index = static_cast<size_t>(missing - outputs_.begin());
    return absl::InternalError(
        absl::StrCat("the model gave no output '", signature_.outputs[index].name, "'"));
  }
  const absl::StatusOr<const ResponseDescriptions::Prepared*> prepared =
      descriptions_.Get(outputs_);
  if (!prepared.ok()) return prepared.status();
  last_ = *prepared;
  last_token_ = last_->token;
  changed_ = false;
  return absl::OkStatus();
}

bool ResponseWriter::Repeat(const Like& like, std::span<std::byte> block,
                            Description* description) {
  // The description may have gone meanwhile, as in Finish.
  if (repeats_.outputs == 0 || repeats_ != like || last_->token != last_token_ ||
      cursor_ > block.size() || last_->bytes.size() > block.size()) {
    return false;
  }
  block_ = block;
  std::memcpy(block_.data(), last_->bytes.data(), last_->bytes.size());
  *description = {.token = last_token_, .bytes = static_cast<uint32_t>(last_->bytes.size())};
  return true;
}

absl::StatusOr<ResponseWriter::Description> ResponseWriter::Finish() {
  // Most responses look like the one before. Another writer's may have taken the place of its
  // description: under another token, since none is given twice.
  const bool as_last = !changed_ && placed_ == outputs_.size() && last_->token == last_token_;
  if (!as_last) {
    if (absl::Status described = Describe(); !described.ok()) return described;
  }
  const ipc::DescriptorBytes& bytes = last_->bytes;
  if (bytes.size() > block_.size()) {
    return absl::ResourceExhaustedError(absl::StrCat("the results need a block of at least ",
                                                     needed_bytes(), " bytes, ", block_.size(),
                                                     " were loaned"));
  }
  if (!bounced_.empty()) {
    if (absl::Status copied = CopyToDevice(); !copied.ok()) return copied;
  }
  std::memcpy(block_.data(), bytes.data(), bytes.size());
  return Description{.token = last_token_, .bytes = static_cast<uint32_t>(bytes.size())};
}

}  // namespace baton::runtime

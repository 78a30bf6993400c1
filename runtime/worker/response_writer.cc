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

void ResponseWriter::Begin(std::span<std::byte> block, const DeviceBlock& device) {
  block_ = block;
  device_ = device;
  cursor_ = on_device() ? 0 : reserve_;
  bounced_.clear();
  for (WrittenOutput& output : outputs_) output.there = false;
}

absl::Status ResponseWriter::Place(size_t index, DType dtype, std::span<const int64_t> shape) {
  if (index >= outputs_.size() || outputs_[index].there) {
    return absl::InternalError(absl::StrCat("the model asked for output ", index,
                                            " twice, or has no such output: it has ",
                                            outputs_.size()));
  }
  const TensorSpec& spec = signature_.outputs[index];
  const std::optional<uint64_t> bytes = TensorBytes(dtype, shape);
  if (!Fits(spec, dtype, shape) || !bytes || *bytes > (uint64_t{1} << 46)) {
    return absl::InternalError(absl::StrCat(
        "the model gave ", ToString(TensorSpec{spec.name, dtype, {shape.begin(), shape.end()}}),
        ", its signature says ", ToString(spec)));
  }
  WrittenOutput& output = outputs_[index];
  output.there = true;
  output.dtype = dtype;
  output.rank = static_cast<uint32_t>(shape.size());
  // All of it: what was described before is known by it.
  const auto rest = std::copy(shape.begin(), shape.end(), output.shape.begin());
  std::fill(rest, output.shape.end(), 0);
  output.offset = cursor_;
  output.bytes = *bytes;
  output.on_device = on_device();
  cursor_ = ipc::RoundUpToGranules(cursor_ + *bytes);
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

absl::StatusOr<ResponseWriter::Description> ResponseWriter::Finish() {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (!outputs_[i].there) {
      return absl::InternalError(
          absl::StrCat("the model gave no output '", signature_.outputs[i].name, "'"));
    }
  }
  const absl::StatusOr<const ResponseDescriptions::Prepared*> prepared =
      descriptions_.Get(outputs_);
  if (!prepared.ok()) return prepared.status();
  const ipc::DescriptorBytes& bytes = (*prepared)->bytes;
  if (bytes.size() > block_.size()) {
    return absl::ResourceExhaustedError(absl::StrCat("the results need a block of at least ",
                                                     needed_bytes(), " bytes, ", block_.size(),
                                                     " were loaned"));
  }
  if (absl::Status copied = CopyToDevice(); !copied.ok()) return copied;
  std::memcpy(block_.data(), bytes.data(), bytes.size());
  return Description{.token = (*prepared)->token, .bytes = static_cast<uint32_t>(bytes.size())};
}

}  // namespace baton::runtime

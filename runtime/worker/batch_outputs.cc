#include "runtime/worker/batch_outputs.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

#include "kernels/pack.h"

namespace baton::runtime {

void BatchOutputs::Begin(const Signature& signature, uint64_t rows, uint64_t max_rows) {
  rows_ = rows;
  max_rows_ = max_rows;
  asked_ = 0;
  if (signature_ != &signature) {
    signature_ = &signature;
    changed_ = true;
    outputs_.assign(signature.outputs.size(), Output{});
    if (staging_.size() < outputs_.size()) staging_.resize(outputs_.size());
  }
  for (Output& output : outputs_) output.there = false;
}

bool BatchOutputs::Output::LooksLike(DType as, std::span<const int64_t> with) const {
  if (dtype != as || rank != with.size()) return false;
  for (size_t i = 1; i < with.size(); ++i) {
    if (shape[i] != with[i]) return false;
  }
  return true;
}

absl::StatusOr<std::span<std::byte>> BatchOutputs::Allocate(size_t index,
                                                            std::span<const int64_t> shape) {
  const bool known = index < outputs_.size();
  return AllocateAs(index, known ? signature_->outputs[index].dtype : DType::kInvalid, shape);
}

absl::StatusOr<std::span<std::byte>> BatchOutputs::AllocateAs(size_t index, DType dtype,
                                                              std::span<const int64_t> shape) {
  if (index >= outputs_.size() || outputs_[index].there) {
    return absl::InternalError(absl::StrCat("the model asked for output ", index,
                                            " twice, or has no such output: it has ",
                                            outputs_.size()));
  }
  const TensorSpec& spec = signature_->outputs[index];
  const std::optional<uint64_t> bytes = TensorBytes(dtype, shape);
  if (!Fits(spec, dtype, shape) || !bytes || *bytes > (uint64_t{1} << 46)) {
    return absl::InternalError(absl::StrCat(
        "the model gave ", ToString(TensorSpec{spec.name, dtype, {shape.begin(), shape.end()}}),
        ", its signature says ", ToString(spec)));
  }
  if (shape.empty() || static_cast<uint64_t>(shape[0]) != rows_) {
    return absl::InternalError(absl::StrCat(
        "the model gave ", shape.empty() ? 0 : shape[0], " rows of the output '", spec.name,
        "' for ", rows_, " rows of several requests: it has to give one for each, or be served ",
        "without 'batching'"));
  }
  Output& output = outputs_[index];
  if (!output.LooksLike(dtype, shape)) changed_ = true;
  output.there = true;
  output.dtype = dtype;
  output.rank = static_cast<uint32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), output.shape.begin());
  output.row_bytes = *bytes / rows_;
  if (asked_ == order_.size() || order_[asked_] != index) {
    order_.resize(asked_);
    order_.push_back(index);
    changed_ = true;
  }
  ++asked_;
  const std::span<std::byte> staged = staging_[index].Get(*bytes, output.row_bytes * max_rows_);
  output.bytes = staged;
  return staged;
}

absl::Status BatchOutputs::Check() {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (outputs_[i].there) continue;
    return absl::InternalError(
        absl::StrCat("the model gave no output '", signature_->outputs[i].name, "'"));
  }
  order_.resize(asked_);  // of another signature's outputs there may have been more
  if (changed_) alike_ = NewLikeness();
  changed_ = false;
  return absl::OkStatus();
}

absl::Status BatchOutputs::Give(uint64_t first_row, uint64_t rows, ResponseWriter& writer) const {
  absl::Status status;
  for (const size_t index : order_) {
    const Output& output = outputs_[index];
    std::array<int64_t, kMaxRank> shape = output.shape;
    shape[0] = static_cast<int64_t>(rows);
    const absl::StatusOr<std::span<std::byte>> block =
        writer.AllocateAs(index, output.dtype, std::span(shape).first(output.rank));
    if (!block.ok()) {
      // The others too: the front is told a size in which all of them fit.
      if (status.ok()) status = block.status();
      continue;
    }
    Copy(output, first_row, rows, *block);
  }
  return status;
}

void BatchOutputs::GiveAgain(uint64_t first_row, uint64_t rows, ResponseWriter& writer) const {
  for (const size_t index : order_) {
    Copy(outputs_[index], first_row, rows, writer.Repeated(index));
  }
}

void BatchOutputs::Copy(const Output& output, uint64_t first_row, uint64_t rows,
                        std::span<std::byte> block) {
  const kernels::MutableRowBlock to = {.data = block.data(), .rows = rows};
  kernels::Unpack(output.bytes.data() + first_row * output.row_bytes, output.row_bytes,
                  std::span(&to, 1));
}

}  // namespace baton::runtime

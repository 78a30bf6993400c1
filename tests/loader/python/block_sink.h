// A response block of a fixed size, laid out as the worker does.
#ifndef BATON_TESTS_LOADER_PYTHON_BLOCK_SINK_H_
#define BATON_TESTS_LOADER_PYTHON_BLOCK_SINK_H_

#include <memory>
#include <new>
#include <vector>

#include "loader/model.h"

namespace baton::loader {

class BlockSink final : public OutputSink {
 public:
  BlockSink(const Signature& signature, size_t bytes)
      : signature_(signature),
        memory_(static_cast<std::byte*>(::operator new(bytes, kAlignment))),
        bytes_(bytes),
        outputs_(signature.outputs.size()) {}

  absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                std::span<const int64_t> shape) override {
    return AllocateAs(index, signature_.outputs.at(index).dtype, shape);
  }
  absl::StatusOr<std::span<std::byte>> AllocateAs(size_t index, DType dtype,
                                                  std::span<const int64_t> shape) override {
    const TensorSpec& spec = signature_.outputs.at(index);
    if (!Fits(spec, dtype, shape)) return absl::InvalidArgumentError("does not fit " + spec.name);
    Output& output = outputs_[index];
    if (output.times++ > 0) return absl::FailedPreconditionError("asked for twice");
    output.dtype = dtype;
    output.shape.assign(shape.begin(), shape.end());
    output.bytes = TensorBytes(dtype, shape).value_or(~uint64_t{0});
    output.offset = needed_;
    needed_ += (output.bytes + 127) / 128 * 128;
    if (needed_ > bytes_) return absl::ResourceExhaustedError("the block is too small");
    return std::span(memory_.get() + output.offset, output.bytes);
  }

  // Bytes that would have been enough.
  uint64_t needed() const { return needed_; }
  bool complete() const {
    for (const Output& output : outputs_) {
      if (output.times != 1) return false;
    }
    return true;
  }
  TensorView view(size_t index) const {
    const Output& output = outputs_.at(index);
    return {signature_.outputs[index].name,
            output.dtype,
            output.shape,
            {memory_.get() + output.offset, output.bytes}};
  }

 private:
  static constexpr std::align_val_t kAlignment{128};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
  };
  struct Output {
    DType dtype = DType::kInvalid;
    std::vector<int64_t> shape;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    int times = 0;
  };
  const Signature signature_;
  const std::unique_ptr<std::byte, Free> memory_;
  const size_t bytes_;
  uint64_t needed_ = 0;
  std::vector<Output> outputs_;
};

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_PYTHON_BLOCK_SINK_H_

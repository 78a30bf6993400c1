// Outputs in memory of the test, `capacity` bytes for each, reused by each run.
#ifndef BATON_TESTS_LOADER_BUFFER_SINK_H_
#define BATON_TESTS_LOADER_BUFFER_SINK_H_

#include <vector>

#include "loader/model.h"

namespace baton::loader {

class BufferSink final : public OutputSink {
 public:
  BufferSink(const Signature& signature, size_t capacity) : signature_(signature) {
    for (size_t i = 0; i < signature.outputs.size(); ++i) {
      outputs_.push_back({.memory = std::vector<std::byte>(capacity)});
      outputs_.back().shape.reserve(kMaxRank);
    }
  }

  absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                std::span<const int64_t> shape) override {
    if (index >= outputs_.size()) return absl::InvalidArgumentError("no such output");
    Output& output = outputs_[index];
    output.shape.assign(shape.begin(), shape.end());
    output.bytes = TensorBytes(signature_.outputs[index].dtype, shape).value_or(~uint64_t{0});
    if (output.bytes > output.memory.size()) return absl::ResourceExhaustedError("too small");
    return std::span(output.memory).first(output.bytes);
  }

  const std::vector<int64_t>& shape(size_t index) const { return outputs_[index].shape; }
  uint64_t bytes(size_t index) const { return outputs_[index].bytes; }

  template <typename T>
  std::span<const T> As(size_t index) const {
    const Output& output = outputs_[index];
    return {reinterpret_cast<const T*>(output.memory.data()), output.bytes / sizeof(T)};
  }

 private:
  struct Output {
    std::vector<std::byte> memory;
    std::vector<int64_t> shape = {};
    uint64_t bytes = 0;
  };
  const Signature signature_;
  std::vector<Output> outputs_;
};

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_BUFFER_SINK_H_

// An OutputSink over plain memory, for tests that call a Model directly.
#ifndef BATON_TESTS_LOADER_ONNX_MEMORY_SINK_H_
#define BATON_TESTS_LOADER_ONNX_MEMORY_SINK_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "loader/model.h"

namespace baton::loader {

// A block of 128-byte aligned memory, as a channel would loan it.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(size_t bytes)
      : storage_((bytes + sizeof(Line) - 1) / sizeof(Line)), bytes_(bytes) {}
  std::span<std::byte> span() { return {reinterpret_cast<std::byte*>(storage_.data()), bytes_}; }

 private:
  struct alignas(128) Line {
    std::byte bytes[128];
  };
  std::vector<Line> storage_;
  size_t bytes_ = 0;
};

// Gives memory until `capacity` is reached, and counts what was asked for all
// the same. Each output may be asked for once.
class MemorySink : public OutputSink {
 public:
  struct Output {
    std::vector<int64_t> shape;
    std::span<std::byte> bytes;
    AlignedBytes owned;

    template <typename T>
    std::vector<T> As() const {
      const T* data = reinterpret_cast<const T*>(bytes.data());
      return {data, data + bytes.size() / sizeof(T)};
    }
  };

  explicit MemorySink(const Signature& signature,
                      uint64_t capacity = std::numeric_limits<uint64_t>::max())
      : signature_(signature), capacity_(capacity) {}

  // Output `index` is to lie in `memory` instead.
  void Place(size_t index, std::span<std::byte> memory) { placed_[index] = memory; }

  absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                std::span<const int64_t> shape) override {
    if (index >= signature_.outputs.size() || outputs_.count(index) != 0) {
      return absl::InternalError("Allocate: a wrong index, or one asked for twice");
    }
    const auto bytes = TensorBytes(signature_.outputs[index].dtype, shape);
    if (!bytes) return absl::InternalError("Allocate: a shape without a size");
    Output& output = outputs_[index];
    output.shape.assign(shape.begin(), shape.end());
    needed_ += *bytes;
    if (needed_ > capacity_) return absl::ResourceExhaustedError("the block is too small");
    if (auto placed = placed_.find(index); placed != placed_.end()) {
      output.bytes = placed->second.first(*bytes);
    } else {
      output.owned = AlignedBytes(*bytes);
      output.bytes = output.owned.span();
    }
    return output.bytes;
  }

  const Output& operator[](size_t index) const { return outputs_.at(index); }
  size_t asked() const { return outputs_.size(); }
  uint64_t needed() const { return needed_; }

 private:
  const Signature& signature_;
  const uint64_t capacity_;
  std::map<size_t, std::span<std::byte>> placed_;
  std::map<size_t, Output> outputs_;
  uint64_t needed_ = 0;
};

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_ONNX_MEMORY_SINK_H_

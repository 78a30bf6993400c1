// Python objects as tensors, and back: what the worker that runs a Python
// model and the Python package that calls one agree on.
//
// The TensorSpec says how: its content and dtype choose the encoding, so that
// neither side needs the other's type annotations. The table is in
// loader/python/DESIGN.md.
//
// Thread safety: the caller holds the GIL in every call, but for
// Encoded::Write. No exception leaves a function, and no Python error is set
// when one returns. Errors are INVALID_ARGUMENT, and begin with the spec's
// name: an object that is not of the spec's type, bytes that are no message,
// more than kMaxDepth lists inside one another.
#ifndef BATON_LOADER_PYTHON_VALUE_CODEC_H_
#define BATON_LOADER_PYTHON_VALUE_CODEC_H_

#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"

namespace baton::python {

class ValueMessage;

// An object that is ready to be written as one tensor. Holds references to
// Python objects: destroy it with the GIL held.
class Encoded {
 public:
  Encoded();
  ~Encoded();
  Encoded(Encoded&&) noexcept;
  Encoded& operator=(Encoded&&) noexcept;

  DType dtype() const { return dtype_; }
  std::span<const int64_t> shape() const { return {shape_.data(), rank_}; }
  uint64_t bytes() const { return bytes_; }
  // Where the tensor's bytes lie now, all of them in order; nullptr where they
  // have to be put together first. Valid as long as this.
  const std::byte* contiguous() const { return data_; }

  // Writes the tensor's bytes, once. to.size() >= bytes(). Needs no GIL.
  void Write(std::span<std::byte> to) const;

 private:
  friend class Encoder;

  DType dtype_ = DType::kInvalid;
  size_t rank_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
  uint64_t bytes_ = 0;
  const std::byte* data_ = nullptr;
  alignas(8) std::array<std::byte, 8> scalar_{};  // where data_ may point
  bool in_scalar_ = false;
  pybind11::object holder_;              // owns what data_ points to
  std::unique_ptr<ValueMessage> value_;  // of a kValue
};

// What `object` is as a tensor of `spec`. None is encoded by kValue alone: an
// optional input that is None is to be left out by the caller. Arrays that are
// dense, row-major and in host memory are not copied before Write.
absl::StatusOr<Encoded> Encode(const TensorSpec& spec, pybind11::handle object);

// The object that `tensor` stands for. `owner` keeps tensor.bytes alive and as
// they are: arrays, also those inside a kValue, are read-only numpy views of
// them that hold a reference to it. None: arrays are private copies. Texts,
// bytes and numbers are always copies. Bytes that somebody may still write are
// read in a way that cannot fault; views show what is written there.
// dtype and shape must fit the spec (Fits).
absl::StatusOr<pybind11::object> Decode(const TensorSpec& spec, const TensorView& tensor,
                                        pybind11::handle owner);

// Lists inside lists, and the like.
inline constexpr int kMaxDepth = 64;

// The Python error that is set, cleared: its type and text, and nothing of
// where it happened.
std::string TakePythonError();

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_VALUE_CODEC_H_

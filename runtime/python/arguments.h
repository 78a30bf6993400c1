// The arguments of one call: from Python objects to a filled request.
#ifndef BATON_RUNTIME_PYTHON_ARGUMENTS_H_
#define BATON_RUNTIME_PYTHON_ARGUMENTS_H_

#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/stream.h"
#include "baton/tensor.h"
#include "loader/python/value_codec.h"
#include "runtime/python/method_info.h"
#include "runtime/python/shared_channel.h"

namespace baton::python {

// Thread safety: none; the caller holds the GIL. Fill lets go of it while it
// copies much.
class Arguments {
 public:
  // Which of a method's inputs: those of a call, or those of each item of a stream.
  enum class Part : uint8_t { kCall, kItem };

  explicit Arguments(const MethodInfo& info, Part part = Part::kCall) : info_(info), part_(part) {}

  // Takes arguments as a Python function of these parameters would; false,
  // with a TypeError set, where it would not. Borrows the references. A stream
  // that the method takes is put aside: see stream().
  bool Bind(PyObject* const* positional, size_t count, PyObject* keyword_names);
  bool Bind(PyObject* positional_tuple, PyObject* keywords);
  // One item of a stream: the value of its only input, a tuple or a dict of several.
  bool BindItem(PyObject* item);

  // What was given for the streamed inputs; nullptr: nothing. Borrowed.
  PyObject* stream() const { return stream_; }

  // Encodes what was bound. `secrets`: a JSON object's text, or nullptr.
  // INVALID_ARGUMENT names the parameter.
  absl::Status Encode(PyObject* secrets);
  // Encodes arrays as they are, by the names of inputs, whatever these mean.
  absl::Status EncodeTensors(PyObject* arrays);

  // Of all tensors, and what lies between them.
  uint64_t request_bytes() const { return request_bytes_; }
  // A loan of the channel's, filled. The caller is inside a Use of it.
  absl::StatusOr<Request> Fill(SharedChannel& channel) const;
  // As Fill, of an item of `stream`.
  absl::StatusOr<Request> Fill(Stream& stream) const;

 private:
  struct Input {
    uint32_t spec;  // of the signature's inputs
    Encoded value;
  };

  bool Assign(size_t parameter, PyObject* value);
  bool AssignPositional(PyObject* const* positional, size_t count);
  bool AssignNamed(PyObject* name, PyObject* value);
  bool AssignNamed(PyObject* keywords);
  bool CheckComplete() const;
  size_t FindParameter(PyObject* name) const;
  void Add(uint32_t spec, Encoded value);
  std::vector<TensorSpec> Shapes() const;
  void Write(const Request& request) const;

  const MethodInfo& info_;
  const Part part_;
  std::array<PyObject*, kMaxTensors> values_{};  // by parameter; borrowed
  PyObject* stream_ = nullptr;
  absl::InlinedVector<Input, 4> inputs_;
  absl::InlinedVector<int64_t, 32> key_;  // see SharedChannel::Loan
  uint64_t request_bytes_ = 0;
};

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_ARGUMENTS_H_

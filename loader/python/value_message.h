// Objects that are more than one tensor, as the message of
// loader/schema/value.capnp. Part of value_codec.h, which is what to use.
//
// Thread safety: the caller holds the GIL, but for Write. Functions throw what
// numpy_array.h says, and kj::Exception.
#ifndef BATON_LOADER_PYTHON_VALUE_MESSAGE_H_
#define BATON_LOADER_PYTHON_VALUE_MESSAGE_H_

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "capnp/message.h"
#include "kj/array.h"

#include "loader/schema/value.capnp.h"

namespace baton::python {

// One object, described; its arrays stay where they are until Write.
class ValueMessage {
 public:
  explicit ValueMessage(pybind11::handle object);

  uint64_t bytes() const { return bytes_; }
  // to.size() >= bytes().
  void Write(std::span<std::byte> to) const;

 private:
  // An array behind the message.
  struct Bulk {
    pybind11::object holder;
    const void* data = nullptr;
    uint64_t bytes = 0;
    uint64_t position = 0;  // from the first array's start
  };

  void Put(loader::schema::Value::Builder to, pybind11::handle object, int depth);
  bool PutPlain(loader::schema::Value::Builder to, pybind11::handle object);
  void PutInt(loader::schema::Value::Builder to, pybind11::handle object);
  void PutArray(loader::schema::Value::Builder to, pybind11::handle object, bool scalar);
  void PutMap(loader::schema::Value::Builder to, pybind11::handle object, int depth);
  void PutOther(loader::schema::Value::Builder to, pybind11::handle object, int depth);
  void PutItems(capnp::List<loader::schema::Value>::Builder to, pybind11::handle sequence,
                int depth);
  void PutFields(capnp::List<loader::schema::Value::Field>::Builder to, pybind11::dict fields,
                 int depth);
  void Place();

  capnp::MallocMessageBuilder message_;
  std::vector<Bulk> arrays_;
  std::vector<loader::schema::Value::Array::Builder> described_;
  kj::Array<capnp::word> words_;
  uint64_t first_array_ = 0;  // from the tensor's start
  uint64_t bytes_ = 0;
};

// The object that `tensor` describes; arrays are views where there is an owner
// (Decode in value_codec.h). The message is copied before it is looked at.
pybind11::object ReadValue(std::span<const std::byte> tensor, pybind11::handle owner);

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_VALUE_MESSAGE_H_

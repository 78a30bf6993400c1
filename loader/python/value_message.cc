#include "loader/python/value_message.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "capnp/serialize.h"

#include "loader/python/numpy_array.h"
#include "loader/python/python_types.h"
#include "loader/python/value_codec.h"

namespace baton::python {
namespace {

namespace py = pybind11;
using loader::schema::Value;

constexpr uint64_t kAlignment = 128;
constexpr uint64_t kPrefixBytes = sizeof(uint64_t);

constexpr uint64_t Aligned(uint64_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }

kj::StringPtr TextOf(py::handle text) {
  Py_ssize_t bytes = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &bytes);
  if (data == nullptr) throw py::error_already_set();
  return kj::StringPtr(data, static_cast<size_t>(bytes));
}

void CheckDepth(int depth) {
  if (depth >= kMaxDepth) {
    throw CodecError(absl::StrCat("more than ", kMaxDepth, " lists or the like in one another"));
  }
}

}  // namespace

ValueMessage::ValueMessage(py::handle object) {
  Put(message_.initRoot<Value>(), object, /*depth=*/0);
  Place();
}

void ValueMessage::Put(Value::Builder to, py::handle object, int depth) {
  CheckDepth(depth);
  if (PutPlain(to, object)) return;
  PyObject* const raw = object.ptr();
  if (PyList_Check(raw)) {
    PutItems(to.initList(static_cast<unsigned>(PyList_GET_SIZE(raw))), object, depth);
  } else if (PyTuple_Check(raw)) {
    PutItems(to.initTuple(static_cast<unsigned>(PyTuple_GET_SIZE(raw))), object, depth);
  } else if (PyDict_Check(raw)) {
    PutMap(to, object, depth);
  } else {
    PutOther(to, object, depth);
  }
}

bool ValueMessage::PutPlain(Value::Builder to, py::handle object) {
  PyObject* const raw = object.ptr();
  if (raw == Py_None) {
    to.setNull();
  } else if (PyUnicode_Check(raw)) {
    to.setText(TextOf(object));
  } else if (PyBool_Check(raw)) {
    to.setBool(raw == Py_True);
  } else if (PyFloat_CheckExact(raw)) {
    to.setFloat(PyFloat_AS_DOUBLE(raw));
  } else if (PyLong_Check(raw)) {
    PutInt(to, object);
  } else if (PyBytes_Check(raw)) {
    to.setData(kj::arrayPtr(reinterpret_cast<const kj::byte*>(PyBytes_AS_STRING(raw)),
                            static_cast<size_t>(PyBytes_GET_SIZE(raw))));
  } else if (PyByteArray_Check(raw)) {
    to.setData(kj::arrayPtr(reinterpret_cast<const kj::byte*>(PyByteArray_AS_STRING(raw)),
                            static_cast<size_t>(PyByteArray_GET_SIZE(raw))));
  } else {
    return false;
  }
  return true;
}

void ValueMessage::PutInt(Value::Builder to, py::handle object) {
  int overflow = 0;
  const long long small = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
  if (overflow == 0) return to.setInt(small);
  const auto bits = object.attr("bit_length")().cast<size_t>();
  const py::bytes big = object.attr("to_bytes")(bits / 8 + 1, "little", py::arg("signed") = true);
  const std::string_view data = big;
  to.setBigInt(kj::arrayPtr(reinterpret_cast<const kj::byte*>(data.data()), data.size()));
}

void ValueMessage::PutArray(Value::Builder to, py::handle object, bool scalar) {
  const py::array array = DenseArray(object, DType::kAny);
  Value::Array::Builder described = to.initArray();
  described.setDtype(static_cast<uint8_t>(DTypeOfArray(array)));
  auto shape = described.initShape(static_cast<unsigned>(array.ndim()));
  for (unsigned i = 0; i < shape.size(); ++i) shape.set(i, array.shape(i));
  described.setBytes(static_cast<uint64_t>(array.nbytes()));
  described.setScalar(scalar);
  const uint64_t position =
      arrays_.empty() ? 0 : Aligned(arrays_.back().position + arrays_.back().bytes);
  described.setOffset(position);  // until Place knows where arrays begin
  described_.push_back(described);
  arrays_.push_back({.holder = array,
                     .data = array.data(),
                     .bytes = static_cast<uint64_t>(array.nbytes()),
                     .position = position});
}

void ValueMessage::PutMap(Value::Builder to, py::handle object, int depth) {
  // A copy, so that a mapping of a class of the user's own cannot change meanwhile.
  const auto entries = py::reinterpret_borrow<py::dict>(object);
  auto map = to.initMap(static_cast<unsigned>(PyDict_Size(entries.ptr())));
  unsigned index = 0;
  for (const auto& [key, value] : entries) {
    if (index >= map.size()) break;
    Value::Entry::Builder entry = map[index++];
    Put(entry.initKey(), key, depth + 1);
    Put(entry.initValue(), value, depth + 1);
  }
}

void ValueMessage::PutItems(capnp::List<Value>::Builder to, py::handle sequence, int depth) {
  const bool list = PyList_Check(sequence.ptr()) != 0;
  for (unsigned i = 0; i < to.size(); ++i) {
    // A list may shrink while its items are looked at, which runs code of theirs.
    if (list && static_cast<Py_ssize_t>(i) >= PyList_GET_SIZE(sequence.ptr())) break;
    const auto item = py::reinterpret_borrow<py::object>(
        list ? PyList_GET_ITEM(sequence.ptr(), i) : PyTuple_GET_ITEM(sequence.ptr(), i));
    Put(to[i], item, depth + 1);
  }
}

void ValueMessage::PutFields(capnp::List<Value::Field>::Builder to, py::dict fields, int depth) {
  unsigned index = 0;
  for (const auto& [name, value] : fields) {
    if (index >= to.size()) break;
    Value::Field::Builder field = to[index++];
    field.setName(TextOf(py::str(name)));
    Put(field.initValue(), value, depth + 1);
  }
}

void ValueMessage::PutOther(Value::Builder to, py::handle object, int depth) {
  const PythonTypes& types = PythonTypes::Get();
  if (py::isinstance<py::array>(object)) return PutArray(to, object, /*scalar=*/false);
  if (py::isinstance(object, types.numpy_scalar)) return PutArray(to, object, /*scalar=*/true);
  if (PyFloat_Check(object.ptr())) return to.setFloat(PyFloat_AsDouble(object.ptr()));
  if (py::isinstance(object, types.named_fields)) {
    const py::dict fields(object.attr("__dict__"));
    return PutFields(to.initFields(static_cast<unsigned>(fields.size())), fields, depth);
  }
  if (py::isinstance(object, types.record)) {
    const py::dict fields = object.attr("_record")();
    Value::Record::Builder record = to.initRecord();
    record.setType(TextOf(py::type::of(object).attr("__name__")));
    return PutFields(record.initFields(static_cast<unsigned>(fields.size())), fields, depth);
  }
  if (py::hasattr(object, "save") && py::hasattr(object, "mode")) {  // Pillow's
    return PutOther(to, types.image.attr("from_pil")(object), depth);
  }
  if (PyObject_CheckBuffer(object.ptr()) && PyMemoryView_Check(object.ptr())) {
    return Put(to, py::bytes(object.attr("tobytes")()), depth);
  }
  if (py::hasattr(object, "__array__")) return PutArray(to, object, /*scalar=*/false);
  throw CodecError(absl::StrCat("a value of type ", TypeName(object),
                                " cannot be sent; make it of str, bytes, numbers, arrays, lists, "
                                "tuples, dicts, NamedFields, Image, Audio, ..."));
}

void ValueMessage::Place() {
  // Offsets are plain numbers: what the message takes does not depend on them.
  const uint64_t message = capnp::computeSerializedSizeInWords(message_) * sizeof(capnp::word);
  first_array_ = Aligned(kPrefixBytes + message);
  for (auto& array : described_) array.setOffset(array.getOffset() + first_array_);
  described_.clear();
  words_ = capnp::messageToFlatArray(message_);
  bytes_ = arrays_.empty() ? kPrefixBytes + message
                           : first_array_ + arrays_.back().position + arrays_.back().bytes;
}

void ValueMessage::Write(std::span<std::byte> to) const {
  const auto message = words_.asBytes();
  const uint64_t message_bytes = message.size();
  std::memcpy(to.data(), &message_bytes, kPrefixBytes);
  std::memcpy(to.data() + kPrefixBytes, message.begin(), message.size());
  uint64_t end = kPrefixBytes + message.size();
  for (const Bulk& array : arrays_) {
    // What nobody wrote may hold something of a request before.
    const uint64_t start = first_array_ + array.position;
    std::memset(to.data() + end, 0, start - end);
    if (array.bytes > 0) std::memcpy(to.data() + start, array.data, array.bytes);
    end = start + array.bytes;
  }
}

namespace {

// Reads one message into objects.
class ValueReader {
 public:
  ValueReader(std::span<const std::byte> tensor, py::handle owner)
      : tensor_(tensor), owner_(owner) {}

  py::object Read(Value::Reader value, int depth) const {
    CheckDepth(depth);
    switch (value.which()) {
      case Value::NULL_:
        return py::none();
      case Value::BOOL:
        return py::bool_(value.getBool());
      case Value::INT:
        return py::int_(value.getInt());
      case Value::BIG_INT:
        return types_.int_from_bytes(AsBytes(value.getBigInt()), "little",
                                     py::arg("signed") = true);
      case Value::FLOAT:
        return py::float_(value.getFloat());
      case Value::TEXT:
        return AsText(value.getText());
      case Value::DATA:
        return AsBytes(value.getData());
      case Value::ARRAY:
        return ReadArray(value.getArray());
      case Value::LIST: {
        py::list list(value.getList().size());
        for (unsigned i = 0; i < value.getList().size(); ++i) {
          PyList_SET_ITEM(list.ptr(), i, Read(value.getList()[i], depth + 1).release().ptr());
        }
        return list;
      }
      case Value::TUPLE: {
        py::tuple tuple(value.getTuple().size());
        for (unsigned i = 0; i < value.getTuple().size(); ++i) {
          PyTuple_SET_ITEM(tuple.ptr(), i, Read(value.getTuple()[i], depth + 1).release().ptr());
        }
        return tuple;
      }
      case Value::MAP: {
        py::dict dict;
        for (const Value::Entry::Reader entry : value.getMap()) {
          dict[Read(entry.getKey(), depth + 1)] = Read(entry.getValue(), depth + 1);
        }
        return dict;
      }
      case Value::FIELDS:
        return types_.named_fields(**ReadFields(value.getFields(), depth));
      case Value::RECORD:
        return ReadRecord(value.getRecord(), depth);
    }
    throw CodecError("holds a value of a kind that this version does not know");
  }

 private:
  static py::object AsText(capnp::Text::Reader text) {
    auto made = py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(text.begin(), static_cast<Py_ssize_t>(text.size()), nullptr));
    if (!made) throw py::error_already_set();
    return made;
  }
  static py::bytes AsBytes(capnp::Data::Reader data) {
    return py::bytes(reinterpret_cast<const char*>(data.begin()), data.size());
  }

  py::dict ReadFields(capnp::List<Value::Field>::Reader fields, int depth) const {
    py::dict made;
    for (const Value::Field::Reader field : fields) {
      made[AsText(field.getName())] = Read(field.getValue(), depth + 1);
    }
    return made;
  }

  py::object ReadRecord(Value::Record::Reader record, int depth) const {
    const py::object name = AsText(record.getType());
    if (!types_.records.contains(name)) {
      throw CodecError(
          absl::StrCat("holds an object of the unknown type '", name.cast<std::string>(), "'"));
    }
    return types_.records[name].attr("_from_record")(ReadFields(record.getFields(), depth));
  }

  py::object ReadArray(Value::Array::Reader array) const {
    std::array<int64_t, kMaxRank> shape{};
    const auto dims = array.getShape();
    const auto dtype = static_cast<DType>(array.getDtype());
    if (dims.size() > kMaxRank || array.getDtype() > kMaxDType) {
      throw CodecError("holds an array of an unknown dtype, or of too many dimensions");
    }
    for (unsigned i = 0; i < dims.size(); ++i) shape[i] = dims[i];
    const std::span<const int64_t> extent(shape.data(), dims.size());
    const std::optional<uint64_t> bytes = TensorBytes(dtype, extent);
    if (!bytes || *bytes != array.getBytes() || array.getOffset() % kAlignment != 0 ||
        array.getOffset() > tensor_.size() || *bytes > tensor_.size() - array.getOffset()) {
      throw CodecError("holds an array that does not lie inside it");
    }
    const std::byte* data = *bytes == 0 ? nullptr : tensor_.data() + array.getOffset();
    const bool scalar = array.getScalar() && dims.size() == 0;
    py::object made = ArrayOver(dtype, extent, data, scalar ? py::none() : owner_);
    return scalar ? made[py::tuple()] : made;
  }

  const std::span<const std::byte> tensor_;
  const py::handle owner_;
  const PythonTypes& types_ = PythonTypes::Get();
};

}  // namespace

py::object ReadValue(std::span<const std::byte> tensor, py::handle owner) {
  uint64_t message_bytes = 0;
  if (tensor.size() < kPrefixBytes) throw CodecError("is shorter than any value");
  std::memcpy(&message_bytes, tensor.data(), kPrefixBytes);
  if (message_bytes == 0 || message_bytes > tensor.size() - kPrefixBytes ||
      message_bytes % sizeof(capnp::word) != 0) {
    throw CodecError("is no value: its message is empty, or would end behind it");
  }
  // Whoever wrote it may still do so: what is checked has to be what is read.
  auto words = kj::heapArray<capnp::word>(message_bytes / sizeof(capnp::word));
  std::memcpy(words.asBytes().begin(), tensor.data() + kPrefixBytes, message_bytes);
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 4 * words.size() + 1024;
  options.nestingLimit = 4 * kMaxDepth;
  capnp::FlatArrayMessageReader message(words, options);
  return ValueReader(tensor, owner).Read(message.getRoot<Value>(), /*depth=*/0);
}

}  // namespace baton::python

#include "loader/python/value_codec.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kj/exception.h"

#include "loader/python/numpy_array.h"
#include "loader/python/python_types.h"
#include "loader/python/value_message.h"

namespace baton::python {
namespace {

namespace py = pybind11;

// Runs `call`, and makes what it throws a status that begins with the spec's name.
template <typename Call>
absl::Status Guarded(const TensorSpec& spec, Call&& call) {
  std::string what;
  try {
    call();
    return absl::OkStatus();
  } catch (py::error_already_set& error) {
    error.restore();
    what = TakePythonError();
  } catch (const kj::Exception& error) {
    what = absl::StrCat("is no value that can be read or sent: ", error.getDescription().cStr());
  } catch (const std::exception& error) {
    what = error.what();
  }
  return absl::InvalidArgumentError(absl::StrCat("'", spec.name, "': ", what));
}

[[noreturn]] void Expected(const char* what, py::handle object) {
  throw CodecError(absl::StrCat("expected ", what, ", not ", TypeName(object)));
}

template <typename T>
void StoreInt(py::handle object, DType dtype, std::byte* to) {
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!number) {
    PyErr_Clear();
    Expected("int", object);
  }
  T value{};
  bool fits = true;
  if constexpr (std::is_signed_v<T>) {
    int overflow = 0;
    const long long wide = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    fits = overflow == 0 && wide >= std::numeric_limits<T>::min() &&
           wide <= std::numeric_limits<T>::max();
    value = static_cast<T>(wide);
  } else {
    const unsigned long long wide = PyLong_AsUnsignedLongLong(number.ptr());
    fits = PyErr_Occurred() == nullptr && wide <= std::numeric_limits<T>::max();
    PyErr_Clear();
    value = static_cast<T>(wide);
  }
  if (!fits) {
    throw CodecError(absl::StrCat("the number does not fit ", std::string(DTypeName(dtype))));
  }
  std::memcpy(to, &value, sizeof(value));
}

void StoreFloat(py::handle object, DType dtype, std::byte* to) {
  if (PyUnicode_Check(object.ptr())) Expected("float", object);
  const double value = PyFloat_AsDouble(object.ptr());
  if (value == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    Expected("float", object);
  }
  if (dtype == DType::kFloat64) {
    std::memcpy(to, &value, sizeof(value));
  } else if (dtype == DType::kFloat32) {
    const auto narrow = static_cast<float>(value);
    std::memcpy(to, &narrow, sizeof(narrow));
  } else if (PyFloat_Pack2(value, reinterpret_cast<char*>(to), /*le=*/1) != 0) {
    throw py::error_already_set();
  }
}

void StoreBool(py::handle object, std::byte* to) {
  const bool is_bool =
      PyBool_Check(object.ptr()) != 0 || py::isinstance(object, PythonTypes::Get().numpy_scalar);
  if (!is_bool) Expected("bool", object);
  const int truth = PyObject_IsTrue(object.ptr());
  if (truth < 0) throw py::error_already_set();
  *to = static_cast<std::byte>(truth);
}

void StoreScalar(py::handle object, DType dtype, std::byte* to) {
  switch (dtype) {
    case DType::kBool:
      return StoreBool(object, to);
    case DType::kUInt8:
      return StoreInt<uint8_t>(object, dtype, to);
    case DType::kInt8:
      return StoreInt<int8_t>(object, dtype, to);
    case DType::kUInt16:
      return StoreInt<uint16_t>(object, dtype, to);
    case DType::kInt16:
      return StoreInt<int16_t>(object, dtype, to);
    case DType::kUInt32:
      return StoreInt<uint32_t>(object, dtype, to);
    case DType::kInt32:
      return StoreInt<int32_t>(object, dtype, to);
    case DType::kUInt64:
      return StoreInt<uint64_t>(object, dtype, to);
    case DType::kInt64:
      return StoreInt<int64_t>(object, dtype, to);
    case DType::kFloat16:
    case DType::kFloat32:
    case DType::kFloat64:
      return StoreFloat(object, dtype, to);
    case DType::kBFloat16:
    case DType::kAny:
    case DType::kInvalid:
      break;
  }
  throw CodecError(
      absl::StrCat("a single number of ", std::string(DTypeName(dtype)), " cannot be sent"));
}

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

py::object LoadScalar(DType dtype, const std::byte* from) {
  switch (dtype) {
    case DType::kBool:
      return py::bool_(Load<uint8_t>(from) != 0);
    case DType::kUInt8:
      return py::int_(Load<uint8_t>(from));
    case DType::kInt8:
      return py::int_(Load<int8_t>(from));
    case DType::kUInt16:
      return py::int_(Load<uint16_t>(from));
    case DType::kInt16:
      return py::int_(Load<int16_t>(from));
    case DType::kUInt32:
      return py::int_(Load<uint32_t>(from));
    case DType::kInt32:
      return py::int_(Load<int32_t>(from));
    case DType::kUInt64:
      return py::int_(Load<uint64_t>(from));
    case DType::kInt64:
      return py::int_(Load<int64_t>(from));
    case DType::kFloat16:
      return py::float_(PyFloat_Unpack2(reinterpret_cast<const char*>(from), /*le=*/1));
    case DType::kFloat32:
      return py::float_(Load<float>(from));
    case DType::kFloat64:
      return py::float_(Load<double>(from));
    case DType::kBFloat16:
    case DType::kAny:
    case DType::kInvalid:
      break;
  }
  throw CodecError(absl::StrCat("is a number of ", std::string(DTypeName(dtype))));
}

py::object DecodeText(std::span<const std::byte> bytes) {
  // A copy first: a decoder that looks twice may see two texts.
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto made = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
  if (!made) throw py::error_already_set();
  return made;
}

py::object DecodeOrThrow(const TensorSpec& spec, const TensorView& tensor, py::handle owner) {
  const auto* chars = reinterpret_cast<const char*>(tensor.bytes.data());
  switch (spec.content) {
    case Content::kTensor:
      return ArrayOver(tensor.dtype, tensor.shape,
                       tensor.bytes.empty() ? nullptr : tensor.bytes.data(), owner);
    case Content::kScalar:
      if (tensor.bytes.size() < DTypeBytes(tensor.dtype)) throw CodecError("is no single number");
      return LoadScalar(tensor.dtype, tensor.bytes.data());
    case Content::kText:
    case Content::kSecret:
      return DecodeText(tensor.bytes);
    case Content::kBytes:
      return py::bytes(chars, tensor.bytes.size());
    case Content::kImage:
      return PythonTypes::Get().image(
          py::arg("pixels") =
              ArrayOver(tensor.dtype, tensor.shape,
                        tensor.bytes.empty() ? nullptr : tensor.bytes.data(), owner));
    case Content::kJson:
      return PythonTypes::Get().json_loads(DecodeText(tensor.bytes));
    case Content::kValue:
      return ReadValue(tensor.bytes, owner);
  }
  throw CodecError("has a content that this version does not know");
}

}  // namespace

// Fills an Encoded.
class Encoder {
 public:
  explicit Encoder(Encoded& to) : to_(to) {}

  void Encode(const TensorSpec& spec, py::handle object) {
    switch (spec.content) {
      case Content::kTensor:
        return Array(spec, object);
      case Content::kScalar:
        StoreScalar(object, spec.dtype, to_.scalar_.data());
        to_.dtype_ = spec.dtype;
        to_.rank_ = 0;
        to_.bytes_ = DTypeBytes(spec.dtype);
        to_.data_ = to_.scalar_.data();
        to_.in_scalar_ = true;
        return;
      case Content::kText:
        return Text(object);
      case Content::kSecret:
        return Text(PyDict_Check(object.ptr()) != 0 ? PythonTypes::Get().json_dumps(object)
                                                    : py::reinterpret_borrow<py::object>(object));
      case Content::kBytes:
        return Bytes(object);
      case Content::kImage:
        return Array(spec, PythonTypes::Get().image.attr("from_value")(object).attr("to_numpy")());
      case Content::kJson:
        return Json(object);
      case Content::kValue:
        to_.value_ = std::make_unique<ValueMessage>(object);
        return Line(nullptr, to_.value_->bytes(), py::object());
    }
    throw CodecError("has a content that this version does not know");
  }

 private:
  // uint8[bytes].
  void Line(const char* data, uint64_t bytes, py::object holder) {
    to_.dtype_ = DType::kUInt8;
    to_.rank_ = 1;
    to_.shape_[0] = static_cast<int64_t>(bytes);
    to_.bytes_ = bytes;
    to_.data_ = reinterpret_cast<const std::byte*>(data);
    to_.holder_ = std::move(holder);
  }

  void Text(py::handle object) {
    py::object text = py::reinterpret_borrow<py::object>(object);
    if (!PyUnicode_Check(text.ptr()) && py::isinstance(object, PythonTypes::Get().text)) {
      text = object.attr("text");
    }
    if (!PyUnicode_Check(text.ptr())) Expected("str", object);
    Py_ssize_t bytes = 0;
    const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &bytes);
    if (data == nullptr) throw py::error_already_set();
    Line(data, static_cast<uint64_t>(bytes), std::move(text));
  }

  void Bytes(py::handle object) {
    py::object bytes = py::reinterpret_borrow<py::object>(object);
    if (PyByteArray_Check(bytes.ptr()) || PyMemoryView_Check(bytes.ptr())) {
      bytes = py::reinterpret_steal<py::object>(PyBytes_FromObject(bytes.ptr()));
      if (!bytes) throw py::error_already_set();
    }
    if (!PyBytes_Check(bytes.ptr())) Expected("bytes", object);
    const char* const data = PyBytes_AS_STRING(bytes.ptr());
    const auto size = static_cast<uint64_t>(PyBytes_GET_SIZE(bytes.ptr()));
    Line(data, size, std::move(bytes));
  }

  void Json(py::handle object) {
    const PythonTypes& types = PythonTypes::Get();
    const py::object value = py::isinstance(object, types.json)
                                 ? py::object(object.attr("value"))
                                 : py::reinterpret_borrow<py::object>(object);
    Text(types.json_dumps(value, py::arg("ensure_ascii") = false));
  }

  void Array(const TensorSpec& spec, py::handle object) {
    py::array array = DenseArray(object, spec.dtype);
    to_.dtype_ = DTypeOfArray(array);
    to_.rank_ = static_cast<size_t>(array.ndim());
    std::copy_n(array.shape(), to_.rank_, to_.shape_.begin());
    if (!Fits(spec, to_.dtype_, to_.shape())) {
      throw CodecError(absl::StrCat(
          "expected ", ToString(spec), ", not ",
          ToString(TensorSpec{"an array", to_.dtype_, {to_.shape().begin(), to_.shape().end()}})));
    }
    to_.bytes_ = static_cast<uint64_t>(array.nbytes());
    to_.data_ = static_cast<const std::byte*>(array.data());
    to_.holder_ = std::move(array);
  }

  Encoded& to_;
};

Encoded::Encoded() = default;
Encoded::~Encoded() = default;

Encoded::Encoded(Encoded&& other) noexcept { *this = std::move(other); }

Encoded& Encoded::operator=(Encoded&& other) noexcept {
  dtype_ = other.dtype_;
  rank_ = other.rank_;
  shape_ = other.shape_;
  bytes_ = other.bytes_;
  scalar_ = other.scalar_;
  in_scalar_ = other.in_scalar_;
  data_ = in_scalar_ ? scalar_.data() : other.data_;
  holder_ = std::move(other.holder_);
  value_ = std::move(other.value_);
  return *this;
}

void Encoded::Write(std::span<std::byte> to) const {
  if (value_ != nullptr) return value_->Write(to);
  // memmove: a model may return a part of what it was given to write to.
  if (bytes_ > 0) std::memmove(to.data(), data_, bytes_);
}

absl::StatusOr<Encoded> Encode(const TensorSpec& spec, py::handle object) {
  Encoded encoded;
  absl::Status status = Guarded(spec, [&] { Encoder(encoded).Encode(spec, object); });
  if (!status.ok()) return status;
  return encoded;
}

absl::StatusOr<py::object> Decode(const TensorSpec& spec, const TensorView& tensor,
                                  py::handle owner) {
  py::object object;
  absl::Status status = Guarded(spec, [&] { object = DecodeOrThrow(spec, tensor, owner); });
  if (!status.ok()) return status;
  return object;
}

std::string TakePythonError() {
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  if (type == nullptr) return "no error";
  PyErr_NormalizeException(&type, &value, &trace);
  std::string text = reinterpret_cast<PyTypeObject*>(type)->tp_name;
  if (PyObject* const shown = value == nullptr ? nullptr : PyObject_Str(value); shown != nullptr) {
    if (const char* const utf8 = PyUnicode_AsUTF8(shown); utf8 != nullptr && utf8[0] != '\0') {
      absl::StrAppend(&text, ": ", utf8);
    }
    Py_DECREF(shown);
  }
  PyErr_Clear();
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
  return text;
}

}  // namespace baton::python

#include "loader/python/numpy_array.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::python {
namespace {

namespace py = pybind11;
using py::detail::npy_api;

// numpy's type numbers of the dtypes up to kMaxDType; -1: numpy has none.
constexpr std::array<int, kMaxDType + 1> kTypeNumbers = {-1,                   // kInvalid
                                                         npy_api::NPY_BOOL_,   // kBool
                                                         npy_api::NPY_UBYTE_,  // kUInt8
                                                         npy_api::NPY_BYTE_,
                                                         npy_api::NPY_USHORT_,
                                                         npy_api::NPY_SHORT_,
                                                         npy_api::NPY_UINT_,
                                                         npy_api::NPY_INT_,
                                                         npy_api::NPY_ULONG_,
                                                         npy_api::NPY_LONG_,
                                                         23 /* half */,
                                                         -1 /* bfloat16 */,
                                                         npy_api::NPY_FLOAT_,
                                                         npy_api::NPY_DOUBLE_};

py::dtype BFloat16() {
  try {
    return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
  } catch (const py::error_already_set&) {
    throw CodecError("numpy has no bfloat16; install the package ml_dtypes, or send float32");
  }
}

bool IsDense(const py::array& array) {
  constexpr int kCArray = npy_api::NPY_ARRAY_C_CONTIGUOUS_ | npy_api::NPY_ARRAY_ALIGNED_;
  return (array.flags() & kCArray) == kCArray && array.dtype().byteorder() != '>';
}

py::object FromForeign(py::handle object, DType dtype) {
  // torch: `detach` is for those that need a gradient, `cpu` for those on a device.
  if (py::hasattr(object, "detach") && py::hasattr(object, "cpu")) {
    return object.attr("detach")().attr("cpu")().attr("numpy")();
  }
  const bool may_be_list = dtype != DType::kAny && PySequence_Check(object.ptr()) != 0 &&
                           PyUnicode_Check(object.ptr()) == 0 && PyBytes_Check(object.ptr()) == 0;
  if (!py::hasattr(object, "__array__") && !may_be_list && !PyFloat_Check(object.ptr()) &&
      !PyLong_Check(object.ptr())) {
    throw CodecError(absl::StrCat("expected an array, not ", TypeName(object)));
  }
  return py::module_::import("numpy").attr("asarray")(object);
}

}  // namespace

std::string TypeName(py::handle object) {
  const std::string name = Py_TYPE(object.ptr())->tp_name;
  return name == "NoneType" ? "None" : name;
}

py::dtype NumpyDType(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  if (dtype == DType::kBFloat16) return BFloat16();
  if (index >= kTypeNumbers.size() || kTypeNumbers[index] < 0) {
    throw CodecError(absl::StrCat("there is no dtype ", index));
  }
  return py::reinterpret_steal<py::dtype>(
      npy_api::get().PyArray_DescrFromType_(kTypeNumbers[index]));
}

DType DTypeOfDescr(py::handle described) {
  const auto* descr = py::detail::array_descriptor_proxy(described.ptr());
  switch (descr->type_num) {
    case npy_api::NPY_LONGLONG_:
      return DType::kInt64;
    case npy_api::NPY_ULONGLONG_:
      return DType::kUInt64;
    default:
      break;
  }
  for (size_t i = 1; i < kTypeNumbers.size(); ++i) {
    if (kTypeNumbers[i] == descr->type_num) return static_cast<DType>(i);
  }
  if (descr->elsize == 2 && py::str(described).cast<std::string>() == "bfloat16") {
    return DType::kBFloat16;
  }
  return DType::kInvalid;
}

DType DTypeOfArray(const py::array& array) {
  return DTypeOfDescr(py::detail::array_proxy(array.ptr())->descr);
}

py::object ArrayOver(DType dtype, std::span<const int64_t> shape, const std::byte* data,
                     py::handle owner, bool writable) {
  const npy_api& api = npy_api::get();
  std::array<Py_intptr_t, kMaxRank> dims{};
  if (shape.size() > kMaxRank) throw CodecError("more dimensions than a tensor can have");
  std::copy(shape.begin(), shape.end(), dims.begin());
  py::dtype descr = NumpyDType(dtype);
  const bool aligned = reinterpret_cast<uintptr_t>(data) % DTypeBytes(dtype) == 0;
  int flags = npy_api::NPY_ARRAY_C_CONTIGUOUS_;
  if (aligned) flags |= npy_api::NPY_ARRAY_ALIGNED_;
  if (writable) flags |= npy_api::NPY_ARRAY_WRITEABLE_;
  auto array = py::reinterpret_steal<py::object>(api.PyArray_NewFromDescr_(
      api.PyArray_Type_, descr.release().ptr(), static_cast<int>(shape.size()), dims.data(),
      /*strides=*/nullptr, const_cast<std::byte*>(data), data == nullptr ? 0 : flags, nullptr));
  if (!array) throw py::error_already_set();
  if (data == nullptr) return array;  // numpy's own memory: there are no elements
  if (owner && !owner.is_none()) {
    if (api.PyArray_SetBaseObject_(array.ptr(), owner.inc_ref().ptr()) != 0) {
      throw py::error_already_set();
    }
    return array;
  }
  auto copy = py::reinterpret_steal<py::object>(api.PyArray_NewCopy_(array.ptr(), /*C order*/ 0));
  if (!copy) throw py::error_already_set();
  return copy;
}

py::array DenseArray(py::handle object, DType dtype) {
  py::object found = py::isinstance<py::array>(object) ? py::reinterpret_borrow<py::object>(object)
                                                       : FromForeign(object, dtype);
  if (!py::isinstance<py::array>(found))
    found = py::module_::import("numpy").attr("asarray")(found);
  auto array = py::reinterpret_borrow<py::array>(found);
  const DType has = DTypeOfArray(array);
  if (has == DType::kInvalid) {
    throw CodecError(absl::StrCat("an array of ", py::str(array.dtype()).cast<std::string>(),
                                  " cannot be sent; convert it, to float32 for example"));
  }
  if (static_cast<size_t>(array.ndim()) > kMaxRank) {
    throw CodecError(absl::StrCat("an array of ", array.ndim(), " dimensions; at most ", kMaxRank,
                                  " can be sent"));
  }
  const bool convert = dtype != DType::kAny && dtype != has;
  if (!convert && IsDense(array)) return array;
  const py::object converted = py::module_::import("numpy").attr("array")(
      array, py::arg("dtype") = convert ? NumpyDType(dtype) : NumpyDType(has),
      py::arg("order") = "C", py::arg("copy") = true);
  if (convert && !py::module_::import("numpy")
                      .attr("can_cast")(array.dtype(), NumpyDType(dtype), "same_kind")
                      .cast<bool>()) {
    throw CodecError(absl::StrCat("expected an array of ", std::string(DTypeName(dtype)),
                                  ", not of ", std::string(DTypeName(has))));
  }
  return py::reinterpret_borrow<py::array>(converted);
}

}  // namespace baton::python

// numpy arrays over memory of ours, and ours from numpy arrays.
//
// Thread safety: the caller holds the GIL. These functions throw
// pybind11::error_already_set, and CodecError where an array cannot be had as
// a tensor; value_codec.h catches both.
#ifndef BATON_LOADER_PYTHON_NUMPY_ARRAY_H_
#define BATON_LOADER_PYTHON_NUMPY_ARRAY_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

#include "baton/tensor.h"

namespace baton::python {

class CodecError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The numpy dtype of a DType; of bfloat16 where the package ml_dtypes has it.
pybind11::dtype NumpyDType(DType dtype);
// The reverse, of a numpy dtype and of an array; kInvalid where Baton has none.
DType DTypeOfDescr(pybind11::handle descr);
DType DTypeOfArray(const pybind11::array& array);

// An array over `data`, which `owner` keeps alive; without an owner, a private
// copy, which may be written. Cost: one object, no copy with an owner.
pybind11::object ArrayOver(DType dtype, std::span<const int64_t> shape, const std::byte* data,
                           pybind11::handle owner, bool writable = false);

// `object`, an array or something that can be made one (a torch tensor, on any
// device; a numpy scalar; a list, where `dtype` is given), as a dense row-major
// array of the host's byte order. With a dtype: of that one, where no kind is
// lost. Copies only what has to be copied.
pybind11::array DenseArray(pybind11::handle object, DType dtype);

// "numpy.ndarray", "str": for errors.
std::string TypeName(pybind11::handle object);

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_NUMPY_ARRAY_H_

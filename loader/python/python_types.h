// Classes of Python's that the codec knows by sight.
#ifndef BATON_LOADER_PYTHON_PYTHON_TYPES_H_
#define BATON_LOADER_PYTHON_PYTHON_TYPES_H_

#include <pybind11/pybind11.h>

namespace baton::python {

// Looked up once, and never given back: the interpreter lives as long as the
// process.
struct PythonTypes {
  pybind11::object numpy_scalar;    // numpy.generic
  pybind11::object int_from_bytes;  // int.from_bytes
  pybind11::object json_dumps;
  pybind11::object json_loads;
  // baton.data_types
  pybind11::object named_fields;
  pybind11::object record;  // MessageData
  pybind11::object image;
  pybind11::object text;
  pybind11::object json;
  pybind11::dict records;  // by name

  // Holding the GIL. Throws pybind11::error_already_set where a module is not
  // to be had.
  static const PythonTypes& Get();
};

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_PYTHON_TYPES_H_

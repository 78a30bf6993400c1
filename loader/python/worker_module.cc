#include "loader/python/worker_module.h"

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "loader/python/item_feed.h"
#include "loader/python/result_writer.h"

namespace baton::python {
namespace {

namespace py = pybind11;

py::object EmptyOutput(const std::string& name, const py::object& shape, const py::object& dtype) {
  ResultWriter* const writer = ResultWriter::OfThisThread();
  if (writer == nullptr) {
    PyErr_SetString(PyExc_RuntimeError,
                    "empty_output: no method is running on this thread for a caller");
    throw py::error_already_set();
  }
  std::vector<int64_t> dims;
  if (PyIndex_Check(shape.ptr()) != 0) {
    dims.push_back(shape.cast<int64_t>());
  } else {
    for (const py::handle dim : shape) dims.push_back(dim.cast<int64_t>());
  }
  return writer->Lend(name, dims, dtype);
}

}  // namespace

void AddWorkerModule() {
  static py::module_::module_def definition;
  py::module_ module = py::module_::create_extension_module("_baton_worker", nullptr, &definition);
  module.def("empty_output", &EmptyOutput);
  py::class_<ItemFeed, std::shared_ptr<ItemFeed>>(module, "Items")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &ItemFeed::Next);
  py::module_::import("sys").attr("modules")["_baton_worker"] = module;
  py::module_::import("baton._context").attr("_empty_output_of_worker") =
      module.attr("empty_output");
}

}  // namespace baton::python

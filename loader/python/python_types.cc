#include "loader/python/python_types.h"

namespace baton::python {

namespace py = pybind11;

const PythonTypes& PythonTypes::Get() {
  // Not a static that is initialised here: importing may let go of the GIL, and
  // another thread that waits for such a static would never give it back.
  static const PythonTypes* known = nullptr;
  if (known == nullptr) {
    auto* made = new PythonTypes;
    const auto data_types = py::module_::import("baton.data_types");
    const auto json = py::module_::import("json");
    made->numpy_scalar = py::module_::import("numpy").attr("generic");
    made->int_from_bytes = py::module_::import("builtins").attr("int").attr("from_bytes");
    made->json_dumps = json.attr("dumps");
    made->json_loads = json.attr("loads");
    made->named_fields = data_types.attr("NamedFields");
    made->record = data_types.attr("MessageData");
    made->image = data_types.attr("Image");
    made->text = data_types.attr("Text");
    made->json = data_types.attr("JSON");
    made->records = data_types.attr("_RECORDS");
    known = made;
  }
  return *known;
}

}  // namespace baton::python

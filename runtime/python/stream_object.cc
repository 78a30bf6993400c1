#include "runtime/python/stream_object.h"

#include "absl/strings/str_cat.h"

#include "runtime/python/python_error.h"

namespace baton::python {

namespace py = pybind11;

py::object StartStream(const std::shared_ptr<FrontSession>&, const MethodInfo& info,
                       const CallSettings&, const Arguments&) {
  return py::reinterpret_steal<py::object>(SetStatusError(absl::UnimplementedError(absl::StrCat(
      "the method ", info.method.name, " streams, which cannot be called from Python"))));
}

}  // namespace baton::python

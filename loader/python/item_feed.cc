#include "loader/python/item_feed.h"

#include <optional>
#include <string>
#include <utility>

#include "loader/python/interpreter.h"
#include "loader/python/value_codec.h"

namespace baton::python {

namespace py = pybind11;

py::object ItemFeed::Next() {
  if (over_ || source_ == nullptr) throw py::stop_iteration();
  if (std::this_thread::get_id() != thread_) {
    PyErr_SetString(PyExc_RuntimeError,
                    "items of a stream are read on the thread that the method was called on");
    throw py::error_already_set();
  }
  absl::StatusOr<std::optional<std::span<const TensorView>>> items = [this] {
    const WithoutGil waiting;
    return source_->Next();
  }();
  if (!items.ok()) {
    over_ = true;
    ended_ = items.status();
    const py::object type = py::module_::import("baton.models").attr("CallEnded");
    PyErr_SetString(type.ptr(), std::string(ended_.message()).c_str());
    throw py::error_already_set();
  }
  if (!*items) {
    over_ = true;
    throw py::stop_iteration();
  }
  const size_t index = *plan_->streamed;
  const TensorSpec& spec = plan_->method.signature.inputs[index];
  absl::StatusOr<py::object> item = Decode(spec, (**items)[0], py::none());
  absl::Status status = item.status();
  if (status.ok()) status = Convert(spec.name, plan_->parameters[index].arrive, *item);
  if (!status.ok()) {
    had_bad_item_ = true;
    throw py::value_error(std::string(status.message()));
  }
  return *std::move(item);
}

}  // namespace baton::python

#include "runtime/python/method_object.h"

#include <structmember.h>

#include <cstddef>
#include <utility>

#include "runtime/python/python_error.h"
#include "runtime/python/stream_object.h"

namespace baton::python {

namespace py = pybind11;

namespace {

struct MethodObject {
  PyObject_HEAD  // NOLINT: as CPython wants it
      vectorcallfunc call;
  MethodState* state;
};

PyTypeObject* method_type = nullptr;  // for as long as the interpreter lives

MethodState& StateOf(PyObject* self) { return *reinterpret_cast<MethodObject*>(self)->state; }

PyObject* CallMethod(PyObject* self, PyObject* const* args, size_t flags, PyObject* names) {
  const MethodState& state = StateOf(self);
  try {
    Arguments arguments(*state.info);
    if (!arguments.Bind(args, static_cast<size_t>(PyVectorcall_NARGS(flags)), names)) {
      return nullptr;
    }
    if (absl::Status encoded = arguments.Encode(state.settings.secrets.ptr()); !encoded.ok()) {
      return SetStatusError(encoded);
    }
    if (state.info->method.streams()) {
      return StartStream(state.session, *state.info, state.settings, arguments).release().ptr();
    }
    return CallAndWait(state.session, *state.info, state.settings, arguments).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

void Destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<MethodObject*>(self)->state;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* ToText(const std::string& text) {
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
}

PyObject* GetName(PyObject* self, void*) { return ToText(StateOf(self).info->method.name); }
PyObject* GetDoc(PyObject* self, void*) { return ToText(StateOf(self).info->method.doc); }

// Made by Python code, when somebody asks.
PyObject* GetSignature(PyObject* self, void*) {
  try {
    return py::module_::import("baton._inspect")
        .attr("of_method")(py::handle(self))
        .release()
        .ptr();
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

PyObject* Represent(PyObject* self) {
  const MethodState& state = StateOf(self);
  return PyUnicode_FromFormat("<method %s of %s>", state.info->method.name.c_str(),
                              state.session->name().c_str());
}

PyGetSetDef attributes[] = {
    {"__name__", GetName, nullptr, nullptr, nullptr},
    {"__qualname__", GetName, nullptr, nullptr, nullptr},
    {"__doc__", GetDoc, nullptr, nullptr, nullptr},
    {"__signature__", GetSignature, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(MethodObject, call), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(Destroy)},
    {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
    {Py_tp_repr, reinterpret_cast<void*>(Represent)},
    {Py_tp_getset, attributes},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {
    "baton._front.Method",
    sizeof(MethodObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace

void AddMethodType(py::module_& module) {
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  method_type = reinterpret_cast<PyTypeObject*>(type);
  module.add_object("Method", py::reinterpret_borrow<py::object>(type));
}

py::object MakeMethod(MethodState state) {
  auto owned = std::make_unique<MethodState>(std::move(state));
  PyObject* self = method_type->tp_alloc(method_type, 0);
  if (self == nullptr) throw py::error_already_set();
  auto* method = reinterpret_cast<MethodObject*>(self);
  method->call = CallMethod;
  method->state = owned.release();
  return py::reinterpret_steal<py::object>(self);
}

const MethodState& MethodOf(py::handle object) {
  if (Py_TYPE(object.ptr()) != method_type) {
    throw py::type_error("expected a method of a front, as front.methods has them");
  }
  return StateOf(object.ptr());
}

}  // namespace baton::python

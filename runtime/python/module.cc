// baton._front: what of the Python package is C++.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"

#include "runtime/python/call_queue.h"
#include "runtime/python/front_session.h"
#include "runtime/python/loaned_request.h"
#include "runtime/python/method_object.h"
#include "runtime/python/python_error.h"
#include "runtime/python/results.h"
#include "runtime/python/stream_object.h"

namespace baton::python {
namespace {

namespace py = pybind11;

using Session = std::shared_ptr<FrontSession>;

Session Attach(const std::string& name, const std::string& run_directory, double connect_timeout,
               uint64_t request_arena_bytes, uint64_t response_arena_bytes, uint32_t ring_entries,
               const std::string& backing, bool huge_pages, int numa_node, uint64_t max_arena_bytes,
               uint32_t max_channels) {
  FrontSession::Options options;
  options.front.run_directory = run_directory;
  options.front.connect_timeout = absl::Seconds(connect_timeout);
  options.channel.request_arena_bytes = request_arena_bytes;
  options.channel.response_arena_bytes = response_arena_bytes;
  options.channel.ring_entries = ring_entries;
  options.channel.huge_pages = huge_pages;
  options.channel.numa_node = numa_node;
  options.max_arena_bytes = max_arena_bytes;
  options.max_channels = max_channels;
  if (backing == "memfd") {
    options.channel.backing = ChannelOptions::Backing::kMemfd;
  } else if (backing == "shm") {
    options.channel.backing = ChannelOptions::Backing::kPosixShm;
  } else {
    throw py::value_error("backing is 'memfd' or 'shm', not '" + backing + "'");
  }
  return ValueOrThrow(FrontSession::Attach(name, options));
}

// A method, as dictionaries of plain values.
py::dict DescribeTensor(const TensorSpec& spec) {
  py::dict out;
  out["name"] = spec.name;
  out["dtype"] = std::string(DTypeName(spec.dtype));
  out["shape"] = py::tuple(py::cast(spec.shape));
  out["content"] = std::string(ContentName(spec.content));
  out["optional"] = spec.optional;
  out["streamed"] = spec.streamed;
  out["type_text"] = spec.type_text;
  out["default_text"] = spec.default_text;
  return out;
}

py::dict DescribeMethod(py::handle method) {
  const Method& of = MethodOf(method).info->method;
  py::dict out;
  out["name"] = of.name;
  out["doc"] = of.doc;
  out["streams_inputs"] = of.streams_inputs;
  out["streams_outputs"] = of.streams_outputs;
  py::list inputs;
  py::list outputs;
  for (const TensorSpec& spec : of.signature.inputs) inputs.append(DescribeTensor(spec));
  for (const TensorSpec& spec : of.signature.outputs) outputs.append(DescribeTensor(spec));
  out["inputs"] = inputs;
  out["outputs"] = outputs;
  return out;
}

py::tuple Methods(const Session& session) {
  py::list methods;
  for (const MethodInfo& info : session->methods()) {
    methods.append(MakeMethod({.session = session, .info = &info, .settings = {}}));
  }
  return py::tuple(methods);
}

// The same method, called in another way. None: as it was.
py::object WithSettings(py::handle method, const py::object& timeout, const py::object& idempotent,
                        const py::object& secrets, const py::object& detail) {
  MethodState state = MethodOf(method);
  if (!timeout.is_none()) {
    state.settings.options.timeout = absl::Seconds(timeout.cast<double>());
    state.settings.stream_timeout = state.settings.options.timeout;
  }
  if (!idempotent.is_none()) state.settings.options.idempotent = idempotent.cast<bool>();
  if (!secrets.is_none()) state.settings.secrets = secrets;
  if (!detail.is_none()) state.settings.detail = static_cast<ResultDetail>(detail.cast<int>());
  return MakeMethod(std::move(state));
}

// Arrays in, arrays out, whatever the tensors mean.
py::object CallTensors(py::handle method, const py::dict& arrays) {
  const MethodState& state = MethodOf(method);
  Arguments arguments(*state.info);
  ThrowIfError(arguments.EncodeTensors(arrays.ptr()));
  CallSettings settings = state.settings;
  settings.detail = ResultDetail::kTensors;
  py::object result = CallAndWait(state.session, *state.info, settings, arguments);
  if (!result) throw py::error_already_set();
  return result;
}

uint64_t Generation(const Session& session) {
  ThrowIfError(session->CheckUsable());
  return session->front()->generation();
}

std::string State(const Session& session) {
  if (!session->CheckUsable().ok()) return "GONE";
  return std::string(session->front()->state());
}

void AddSession(py::module_& module) {
  py::class_<FrontSession, Session>(module, "Session")
      .def_property_readonly("name", [](const FrontSession& self) { return self.name(); })
      .def_property_readonly("generation", Generation)
      .def_property_readonly("state", State)
      .def_property_readonly("usable",
                             [](const FrontSession& self) { return self.CheckUsable().ok(); })
      .def("methods", Methods)
      .def("open_queue", &CallQueue::Open)
      .def("close", &FrontSession::Close);
  module.def("attach", Attach, py::arg("name"), py::arg("run_directory"),
             py::arg("connect_timeout"), py::arg("request_arena_bytes"),
             py::arg("response_arena_bytes"), py::arg("ring_entries"), py::arg("backing"),
             py::arg("huge_pages"), py::arg("numa_node"), py::arg("max_arena_bytes"),
             py::arg("max_channels"));
}

void AddCalls(py::module_& module) {
  AddMethodType(module);
  module.def("describe", DescribeMethod, py::arg("method"));
  module.def("with_settings", WithSettings, py::arg("method"), py::arg("timeout"),
             py::arg("idempotent"), py::arg("secrets"), py::arg("detail"));
  module.def("call_tensors", CallTensors, py::arg("method"), py::arg("arrays"));
  module.def("loan", &LoanedRequest::Make, py::arg("method"), py::arg("shapes"));
  py::class_<Lease>(module, "Lease");
  py::class_<LoanedRequest>(module, "LoanedRequest")
      .def_property_readonly("arrays", &LoanedRequest::arrays)
      .def("call", &LoanedRequest::Call);
  py::class_<StreamCall>(module, "Stream")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &StreamCall::Next)
      .def("try_read", &StreamCall::TryRead)
      .def("try_write", &StreamCall::TryWrite, py::arg("item"))
      .def("writes_done", &StreamCall::WritesDone)
      .def("wait", &StreamCall::Wait, py::arg("fd"), py::arg("seconds"))
      .def("close", &StreamCall::Close);
  py::class_<CallQueue>(module, "CallQueue")
      .def("submit", &CallQueue::Submit, py::arg("method"), py::arg("positional"),
           py::arg("keywords"))
      .def("start_stream", &CallQueue::StartStream, py::arg("method"), py::arg("positional"),
           py::arg("keywords"))
      .def("poll", &CallQueue::Poll)
      .def("wait", &CallQueue::Wait, py::arg("seconds"))
      .def("cancel", &CallQueue::Cancel, py::arg("ticket"))
      .def("arm", &CallQueue::Arm)
      .def("clear_event", &CallQueue::ClearEvent)
      .def("fileno", &CallQueue::FileNumber)
      .def_property_readonly("outstanding", &CallQueue::outstanding);
}

}  // namespace
}  // namespace baton::python

PYBIND11_MODULE(_front, module) {
  module.doc() = "Calls of served models through shared memory; use baton.Front instead.";
  baton::python::AddSession(module);
  baton::python::AddCalls(module);
}

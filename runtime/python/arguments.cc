#include "runtime/python/arguments.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::python {

namespace py = pybind11;

namespace {

constexpr size_t kNotFound = ~size_t{0};
// A copy of so much takes longer than other threads should wait.
constexpr uint64_t kCopyWithoutGilBytes = 256 << 10;
// Rounds up what tensors need to where the next may lie.
constexpr uint64_t kTensorAlignment = 128;

const char* Name(PyObject* text) {
  const char* name = PyUnicode_AsUTF8(text);
  if (name == nullptr) PyErr_Clear();
  return name == nullptr ? "?" : name;
}

}  // namespace

size_t Arguments::FindParameter(PyObject* name) const {
  // Interned on both sides nearly always.
  for (size_t i = 0; i < info_.parameters.size(); ++i) {
    if (info_.parameters[i].name.ptr() == name) return i;
  }
  for (size_t i = 0; i < info_.parameters.size(); ++i) {
    if (PyUnicode_Check(name) && PyUnicode_Compare(info_.parameters[i].name.ptr(), name) == 0) {
      return i;
    }
  }
  return kNotFound;
}

bool Arguments::Assign(size_t parameter, PyObject* value) {
  PyObject*& slot = values_[parameter];
  if (slot != nullptr) {
    PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                 info_.method.name.c_str(), Name(info_.parameters[parameter].name.ptr()));
    return false;
  }
  slot = value;
  if (part_ == Part::kCall && info_.parameters[parameter].streamed) stream_ = value;
  return true;
}

bool Arguments::AssignNamed(PyObject* name, PyObject* value) {
  const size_t parameter = FindParameter(name);
  if (parameter != kNotFound) return Assign(parameter, value);
  PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%s'",
               info_.method.name.c_str(), PyUnicode_Check(name) ? Name(name) : "?");
  return false;
}

bool Arguments::CheckComplete() const {
  for (size_t i = 0; i < info_.parameters.size(); ++i) {
    const MethodInfo::Parameter& parameter = info_.parameters[i];
    const bool wanted = part_ == Part::kItem ? parameter.streamed : true;
    if (!wanted || parameter.optional || values_[i] != nullptr) continue;
    // Several streamed inputs are one stream.
    if (part_ == Part::kCall && parameter.streamed && stream_ != nullptr) continue;
    PyErr_Format(PyExc_TypeError, "%s() missing a required argument: '%s'",
                 info_.method.name.c_str(), Name(parameter.name.ptr()));
    return false;
  }
  return true;
}

bool Arguments::AssignPositional(PyObject* const* positional, size_t count) {
  if (count > info_.parameters.size()) {
    PyErr_Format(PyExc_TypeError, "%s() takes %zu positional arguments but %zu were given",
                 info_.method.name.c_str(), info_.parameters.size(), count);
    return false;
  }
  for (size_t i = 0; i < count; ++i) {
    if (!Assign(i, positional[i])) return false;
  }
  return true;
}

bool Arguments::Bind(PyObject* const* positional, size_t count, PyObject* keyword_names) {
  if (!AssignPositional(positional, count)) return false;
  const Py_ssize_t named = keyword_names == nullptr ? 0 : PyTuple_GET_SIZE(keyword_names);
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* value = positional[count + static_cast<size_t>(i)];
    if (!AssignNamed(PyTuple_GET_ITEM(keyword_names, i), value)) return false;
  }
  return CheckComplete();
}

bool Arguments::Bind(PyObject* positional_tuple, PyObject* keywords) {
  const auto count = static_cast<size_t>(PyTuple_GET_SIZE(positional_tuple));
  if (!AssignPositional(&PyTuple_GET_ITEM(positional_tuple, 0), count)) return false;
  return (keywords == nullptr || AssignNamed(keywords)) && CheckComplete();
}

bool Arguments::AssignNamed(PyObject* keywords) {
  PyObject* name = nullptr;
  PyObject* value = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(keywords, &at, &name, &value) != 0;) {
    if (!AssignNamed(name, value)) return false;
  }
  return true;
}

bool Arguments::BindItem(PyObject* item) {
  size_t streamed = 0;
  size_t only = 0;
  for (size_t i = 0; i < info_.parameters.size(); ++i) {
    if (!info_.parameters[i].streamed) continue;
    only = i;
    ++streamed;
  }
  if (streamed == 1) return Assign(only, item);
  if (PyDict_Check(item)) return AssignNamed(item) && CheckComplete();
  if (!PyTuple_Check(item) || static_cast<size_t>(PyTuple_GET_SIZE(item)) != streamed) {
    PyErr_Format(PyExc_TypeError, "%s(): each item of the stream is a dict or a tuple of %zu",
                 info_.method.name.c_str(), streamed);
    return false;
  }
  Py_ssize_t at = 0;
  for (size_t i = 0; i < info_.parameters.size(); ++i) {
    if (info_.parameters[i].streamed && !Assign(i, PyTuple_GET_ITEM(item, at++))) return false;
  }
  return true;
}

void Arguments::Add(uint32_t spec, Encoded value) {
  key_.push_back(static_cast<int64_t>(spec) << 8 | static_cast<int64_t>(value.dtype()));
  key_.push_back(static_cast<int64_t>(value.shape().size()));
  for (const int64_t dim : value.shape()) key_.push_back(dim);
  request_bytes_ += (value.bytes() + kTensorAlignment) / kTensorAlignment * kTensorAlignment;
  inputs_.push_back({spec, std::move(value)});
}

absl::Status Arguments::Encode(PyObject* secrets) {
  key_.assign(1, static_cast<int64_t>(info_.index) << 1 | (part_ == Part::kItem ? 1 : 0));
  for (size_t i = 0; i < info_.parameters.size(); ++i) {
    const MethodInfo::Parameter& parameter = info_.parameters[i];
    if ((part_ == Part::kItem) != parameter.streamed || values_[i] == nullptr) continue;
    if (parameter.optional && values_[i] == Py_None) continue;
    const TensorSpec& spec = info_.method.signature.inputs[parameter.input];
    absl::StatusOr<Encoded> encoded = python::Encode(spec, values_[i]);
    if (!encoded.ok()) return encoded.status();
    Add(parameter.input, *std::move(encoded));
  }
  if (secrets == nullptr) return absl::OkStatus();
  if (!info_.secrets_input) {
    return absl::InvalidArgumentError(
        absl::StrCat("the method ", info_.method.name,
                     " takes no secrets: only models written in Python get those of one call"));
  }
  absl::StatusOr<Encoded> encoded =
      python::Encode(info_.method.signature.inputs[*info_.secrets_input], secrets);
  if (!encoded.ok()) return encoded.status();
  Add(*info_.secrets_input, *std::move(encoded));
  return absl::OkStatus();
}

absl::Status Arguments::EncodeTensors(PyObject* arrays) {
  key_.assign(1, static_cast<int64_t>(info_.index) << 1);
  const std::vector<TensorSpec>& specs = info_.method.signature.inputs;
  PyObject* name = nullptr;
  PyObject* value = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(arrays, &at, &name, &value) != 0;) {
    const std::string text = PyUnicode_Check(name) ? Name(name) : "?";
    size_t index = 0;
    while (index < specs.size() && specs[index].name != text) ++index;
    if (index == specs.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the method ", info_.method.name, " has no input '", text, "'"));
    }
    const TensorSpec as_it_is{.name = text, .dtype = DType::kAny, .shape = {kAnyRank}};
    absl::StatusOr<Encoded> encoded = python::Encode(as_it_is, value);
    if (!encoded.ok()) return encoded.status();
    Add(static_cast<uint32_t>(index), *std::move(encoded));
  }
  return absl::OkStatus();
}

std::vector<TensorSpec> Arguments::Shapes() const {
  std::vector<TensorSpec> shapes;
  for (const Input& input : inputs_) {
    const std::span<const int64_t> shape = input.value.shape();
    shapes.push_back({.name = info_.method.signature.inputs[input.spec].name,
                      .dtype = input.value.dtype(),
                      .shape = {shape.begin(), shape.end()}});
  }
  return shapes;
}

void Arguments::Write(const Request& request) const {
  std::optional<py::gil_scoped_release> release;
  if (request_bytes_ > kCopyWithoutGilBytes) release.emplace();
  for (size_t i = 0; i < inputs_.size(); ++i) inputs_[i].value.Write(request.input_bytes(i));
}

absl::StatusOr<Request> Arguments::Fill(SharedChannel& channel) const {
  absl::StatusOr<Request> request = channel.Loan(info_.index, key_, [this] { return Shapes(); });
  if (request.ok()) Write(*request);
  return request;
}

absl::StatusOr<Request> Arguments::Fill(Stream& stream) const {
  absl::StatusOr<Request> request = stream.NewItem(Shapes());
  if (request.ok()) Write(*request);
  return request;
}

}  // namespace baton::python

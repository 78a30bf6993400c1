#include "loader/python/result_writer.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "loader/python/numpy_array.h"
#include "loader/python/value_codec.h"

namespace baton::python {
namespace {

namespace py = pybind11;

thread_local ResultWriter* current = nullptr;

constexpr std::align_val_t kAlignment{128};

// What the base of a lent array holds: nothing, or the copy that took the
// block's place.
struct Keeper {
  std::byte* copy = nullptr;
  ~Keeper() { ::operator delete(copy, kAlignment); }
};

py::object NewKeeper() {
  return py::capsule(new Keeper, [](void* keeper) { delete static_cast<Keeper*>(keeper); });
}

absl::Status Promised(const MethodPlan& plan, const std::string& what) {
  return absl::InternalError(absl::StrCat(plan.method.name,
                                          " returned something else than its "
                                          "annotation says: ",
                                          what));
}

}  // namespace

ResultWriter::ResultWriter(const MethodPlan& plan, loader::OutputSink& sink)
    : plan_(plan), sink_(sink), outer_(std::exchange(current, this)) {}

ResultWriter::~ResultWriter() {
  current = outer_;
  for (Loan& loan : loans_) TakeBack(loan);
}

ResultWriter* ResultWriter::OfThisThread() { return current; }

absl::StatusOr<std::span<std::byte>> ResultWriter::Allocate(size_t output, DType dtype,
                                                            std::span<const int64_t> shape) {
  const bool any = plan_.method.signature.outputs[output].dtype == DType::kAny;
  auto memory = any ? sink_.AllocateAs(output, dtype, shape) : sink_.Allocate(output, shape);
  if (absl::IsResourceExhausted(memory.status())) exhausted_.Update(memory.status());
  return memory;
}

py::object ResultWriter::Lend(const std::string& name, const std::vector<int64_t>& shape,
                              py::handle dtype_like) {
  const std::vector<TensorSpec>& specs = plan_.method.signature.outputs;
  const auto spec =
      std::find_if(specs.begin(), specs.end(), [&](const TensorSpec& s) { return s.name == name; });
  if (spec == specs.end()) {
    throw py::value_error(absl::StrCat("empty_output: ", plan_.method.name, " has no output '",
                                       name, "'; its first is '", specs[0].name, "'"));
  }
  const auto index = static_cast<size_t>(spec - specs.begin());
  if (std::any_of(loans_.begin(), loans_.end(), [&](const Loan& l) { return l.output == index; })) {
    throw py::value_error(
        absl::StrCat("empty_output: '", name, "' has been had before in this response"));
  }
  const auto descr = py::dtype::from_args(py::reinterpret_borrow<py::object>(dtype_like));
  const DType dtype = DTypeOfDescr(descr);
  const std::optional<uint64_t> bytes =
      dtype == DType::kInvalid ? std::nullopt : TensorBytes(dtype, shape);
  if (spec->content != Content::kTensor || !bytes || !Fits(*spec, dtype, shape)) {
    throw py::value_error(absl::StrCat("empty_output: '", name, "' is to be ", ToString(*spec),
                                       ", which that is not"));
  }
  Loan loan{.output = index,
            .array = {},
            .keeper = {},
            .block = nullptr,
            .dtype = dtype,
            .shape = shape,
            .bytes = *bytes};
  const absl::StatusOr<std::span<std::byte>> memory = Allocate(index, dtype, shape);
  if (memory.ok() && loan.bytes > 0) {
    loan.block = memory->data();
    loan.keeper = NewKeeper();
    loan.array = ArrayOver(dtype, shape, loan.block, loan.keeper, /*writable=*/true);
  } else if (memory.ok() || absl::IsResourceExhausted(memory.status())) {
    loan.array = py::module_::import("numpy").attr("empty")(py::cast(shape), descr);
  } else {
    throw py::value_error(absl::StrCat("empty_output: ", std::string(memory.status().message())));
  }
  loans_.push_back(loan);
  return loan.array;
}

void ResultWriter::TakeBack(Loan& loan) {
  // Ours is the only reference: nobody sees the block any more.
  if (loan.block == nullptr || Py_REFCNT(loan.array.ptr()) == 1) return;
  auto* keeper = static_cast<Keeper*>(PyCapsule_GetPointer(loan.keeper.ptr(), nullptr));
  keeper->copy = static_cast<std::byte*>(::operator new(loan.bytes, kAlignment));
  std::memcpy(keeper->copy, loan.block, loan.bytes);
  py::detail::array_proxy(loan.array.ptr())->data = reinterpret_cast<char*>(keeper->copy);
}

absl::Status ResultWriter::Split(const py::object& result, std::vector<py::object>& values) const {
  const size_t count = plan_.output_names.size();
  if (plan_.outputs == MethodPlan::Outputs::kSingle) {
    values.push_back(result);
    return absl::OkStatus();
  }
  if (plan_.outputs == MethodPlan::Outputs::kTuple) {
    const bool sequence = PyTuple_Check(result.ptr()) != 0 || PyList_Check(result.ptr()) != 0;
    if (!sequence || static_cast<size_t>(PySequence_Size(result.ptr())) != count) {
      return Promised(plan_, absl::StrCat("expected a tuple of ", count, ", not ",
                                          sequence ? absl::StrCat(PySequence_Size(result.ptr()))
                                                   : TypeName(result)));
    }
    for (size_t i = 0; i < count; ++i) {
      values.push_back(py::reinterpret_steal<py::object>(
          PySequence_GetItem(result.ptr(), static_cast<Py_ssize_t>(i))));
    }
    return absl::OkStatus();
  }
  for (const py::object& name : plan_.output_names) {
    auto value = py::reinterpret_steal<py::object>(PyObject_GetItem(result.ptr(), name.ptr()));
    if (!value) {
      PyErr_Clear();
      value = py::reinterpret_steal<py::object>(PyObject_GetAttr(result.ptr(), name.ptr()));
    }
    if (!value) {
      PyErr_Clear();
      return Promised(plan_, absl::StrCat("the field '", PyUnicode_AsUTF8(name.ptr()),
                                          "' is missing in ", TypeName(result)));
    }
    values.push_back(std::move(value));
  }
  return absl::OkStatus();
}

// What set_output_context was told in the context that this thread is in. It
// has been looked at then, so what goes wrong here is no fault of the model's.
py::object ResultWriter::Context() const {
  if (!plan_.context) return {};
  auto context = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(plan_.context.ptr()));
  if (context) return context;
  PyErr_Clear();
  return py::dict();
}

py::object ResultWriter::ForLater(const py::object& result) const {
  return plan_.context ? py::make_tuple(result, Context()) : result;
}

absl::Status ResultWriter::WriteLater(const py::object& kept) {
  if (!plan_.context) return Write(kept, {});
  const auto pair = kept.cast<py::tuple>();
  return Write(pair[0], pair[1]);
}

absl::Status ResultWriter::Write(const py::object& result) { return Write(result, Context()); }

absl::Status ResultWriter::Write(const py::object& result, const py::object& context) {
  std::vector<py::object> values;
  absl::Status split = Split(result, values);
  if (!split.ok()) return split;
  if (plan_.context) values.push_back(context);
  for (size_t i = 0; i < values.size(); ++i) {
    absl::Status written = WriteOutput(i, std::move(values[i]));
    if (!written.ok() && !absl::IsResourceExhausted(written)) return written;
  }
  return exhausted_;
}

absl::Status ResultWriter::WriteOutput(size_t output, py::object value) {
  const TensorSpec& spec = plan_.method.signature.outputs[output];
  const auto loan =
      std::find_if(loans_.begin(), loans_.end(), [&](const Loan& l) { return l.output == output; });
  if (loan != loans_.end() && loan->array.is(value) && loan->block != nullptr) {
    return absl::OkStatus();
  }
  absl::Status converted = Convert(spec.name, plan_.leave[output], value);
  if (!converted.ok()) return Promised(plan_, std::string(converted.message()));
  const absl::StatusOr<Encoded> encoded = Encode(spec, value);
  if (!encoded.ok()) return Promised(plan_, std::string(encoded.status().message()));
  if (loan == loans_.end()) {
    absl::StatusOr<std::span<std::byte>> memory =
        Allocate(output, encoded->dtype(), encoded->shape());
    if (!memory.ok()) return memory.status();
    encoded->Write(*memory);
    return absl::OkStatus();
  }
  if (loan->dtype != encoded->dtype() || !std::ranges::equal(loan->shape, encoded->shape())) {
    return Promised(plan_, absl::StrCat("'", spec.name,
                                        "' is not of the dtype and shape that "
                                        "empty_output was asked for"));
  }
  if (loan->block != nullptr && encoded->contiguous() != loan->block) {
    encoded->Write({loan->block, loan->bytes});
  }
  return absl::OkStatus();
}

}  // namespace baton::python

#include "runtime/python/loaned_request.h"

#include <pybind11/numpy.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "runtime/python/blocking_call.h"
#include "runtime/python/python_error.h"

namespace baton::python {

namespace py = pybind11;

namespace {

constexpr uint64_t kTensorAlignment = 128;

std::vector<TensorSpec> ToSpecs(const py::dict& shapes) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, described] : shapes) {
    const auto pair = py::reinterpret_borrow<py::sequence>(described);
    TensorSpec spec;
    spec.name = name.cast<std::string>();
    const auto dtype = py::str(pair[0]).cast<std::string>();
    spec.dtype = DTypeFromName(dtype);
    for (const py::handle dim : py::tuple(pair[1])) spec.shape.push_back(dim.cast<int64_t>());
    if (!TensorBytes(spec.dtype, spec.shape)) {
      ThrowStatus(absl::InvalidArgumentError(absl::StrCat(
          "input '", spec.name, "': '", dtype,
          "' and its shape are no tensor: give a dtype's name, and dimensions that are not "
          "negative")));
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

// numpy has no bfloat16: its bits are given as uint16.
py::dtype NumpyType(DType dtype) {
  return py::dtype(std::string(dtype == DType::kBFloat16 ? "uint16" : DTypeName(dtype)));
}

}  // namespace

std::unique_ptr<LoanedRequest> LoanedRequest::Make(py::handle method, const py::dict& shapes) {
  const MethodState& state = MethodOf(method);
  const std::vector<TensorSpec> specs = ToSpecs(shapes);
  uint64_t bytes = 0;
  for (const TensorSpec& spec : specs) {
    bytes += TensorBytes(spec.dtype, spec.shape).value_or(0) + kTensorAlignment;
  }
  std::shared_ptr<SharedChannel> channel = ValueOrThrow(state.session->Take(bytes));
  // Never the same as a call's: that has fewer bits in its second number.
  std::vector<int64_t> key = {static_cast<int64_t>(state.info->index) << 1, -1};
  for (const TensorSpec& spec : specs) {
    size_t index = 0;
    for (const TensorSpec& input : state.info->method.signature.inputs) {
      if (input.name == spec.name) break;
      ++index;
    }
    key.push_back(static_cast<int64_t>(index) << 8 | static_cast<int64_t>(spec.dtype));
    key.push_back(static_cast<int64_t>(spec.shape.size()));
    key.insert(key.end(), spec.shape.begin(), spec.shape.end());
  }
  const SharedChannel::Use use(*channel);
  absl::StatusOr<Request> request =
      channel->Loan(state.info->index, key, [&specs] { return specs; });
  if (!request.ok()) ThrowStatus(request.status());
  std::unique_ptr<LoanedRequest> loaned(new LoanedRequest(state, channel, *std::move(request)));
  // Keeps the memory mapped, no more: the block goes on to others.
  const py::capsule base(new std::shared_ptr<SharedChannel>(channel), [](void* kept) {
    delete static_cast<std::shared_ptr<SharedChannel>*>(kept);
  });
  for (size_t i = 0; i < specs.size(); ++i) {
    loaned->arrays_[py::str(specs[i].name)] =
        py::array(NumpyType(specs[i].dtype), specs[i].shape, {},
                  loaned->request_.input_bytes(i).data(), base);
  }
  return loaned;
}

LoanedRequest::~LoanedRequest() {
  if (channel_ == nullptr) return;
  if (request_.valid()) channel_->Release(std::move(request_));
  state_.session->Return(std::move(channel_));
}

py::object LoanedRequest::Call() {
  ThrowIfError(state_.session->CheckUsable());
  if (channel_ == nullptr) {
    ThrowStatus(absl::FailedPreconditionError("this request was called already: make a new one"));
  }
  TakenChannel taken(*state_.session, std::move(channel_));
  const std::shared_ptr<SharedChannel> channel = taken.shared();
  CallSettings settings = state_.settings;
  settings.detail = ResultDetail::kTensors;
  const SharedChannel::Use use(*channel);
  bool broken = false;
  py::object result = SubmitAndWait(channel, *state_.info, settings, std::move(request_), &broken);
  if (broken) taken.Drop();
  if (!result) throw py::error_already_set();
  return result;
}

}  // namespace baton::python

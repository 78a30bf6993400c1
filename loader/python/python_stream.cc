#include "loader/python/python_stream.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "loader/python/call_scope.h"
#include "loader/python/interpreter.h"
#include "loader/python/item_feed.h"
#include "loader/python/python_log.h"
#include "loader/python/result_writer.h"

namespace baton::python {
namespace {

namespace py = pybind11;

class PythonStream final : public loader::ModelStream {
 public:
  // Objects of Python's: made, used and destroyed with the GIL only.
  struct Objects {
    explicit Objects(loader::CallContext& call, bool views)
        : lease(views ? InputLease(call) : InputLease()) {}

    CallContextVars vars;
    InputLease lease;
    std::vector<py::object> parameters;
    std::shared_ptr<ItemFeed> feed;
    py::object responses;  // the iterator over them, once the method has been called
    py::object pending;    // a response that did not fit
  };

  PythonStream(const ModelName& model, const MethodPlan& plan, std::unique_ptr<Objects> objects)
      : model_(model), plan_(plan), objects_(std::move(objects)) {}
  ~PythonStream() override;

  absl::StatusOr<bool> Next(loader::OutputSink& outputs) override;

 private:
  enum class State { kNotCalled, kRunning, kOver };

  // The next response; null when there is none.
  absl::StatusOr<py::object> NextResponse();
  absl::Status Call();
  absl::Status Failed();
  absl::Status EndWith(absl::Status status);
  void Close();

  const ModelName& model_;
  const MethodPlan& plan_;
  State state_ = State::kNotCalled;
  std::unique_ptr<Objects> objects_;
};

PythonStream::~PythonStream() {
  const Gil gil;
  Close();
  objects_.reset();
}

// The generator sees GeneratorExit where it waits.
void PythonStream::Close() {
  if (objects_ == nullptr) return;
  if (objects_->feed != nullptr) objects_->feed->Detach();
  const CallContextVars::Scope scope(objects_->vars);
  if (objects_->responses && py::hasattr(objects_->responses, "close")) {
    const auto closed = py::reinterpret_steal<py::object>(
        PyObject_CallMethod(objects_->responses.ptr(), "close", nullptr));
    if (!closed) {
      PythonLog::Write(
          absl::StrCat(plan_.method.name, ": closing its iterator: ", TakeErrorText(model_), "\n"));
    }
  }
  objects_->responses = {};
  objects_->pending = {};
  objects_->parameters.clear();
}

absl::Status PythonStream::Failed() {
  const absl::StatusCode code = objects_->feed != nullptr && objects_->feed->had_bad_item()
                                    ? absl::StatusCode::kInvalidArgument
                                    : absl::StatusCode::kUnknown;
  return TakeModelError(model_, plan_.method.name, code);
}

absl::Status PythonStream::Call() {
  state_ = State::kRunning;
  py::object result = CallMethod(plan_, objects_->parameters);
  if (!result) return Failed();
  if (!plan_.method.streams_outputs) {
    // One response, as if it came from an iterator.
    objects_->pending = std::move(result);
    return absl::OkStatus();
  }
  objects_->responses = py::reinterpret_steal<py::object>(PyObject_GetIter(result.ptr()));
  if (objects_->responses) return absl::OkStatus();
  PyErr_Clear();
  return ModelError(model_, plan_.method.name,
                    absl::InternalError(absl::StrCat("returned no iterator, as its annotation "
                                                     "says, but an object of type ",
                                                     Py_TYPE(result.ptr())->tp_name)));
}

absl::StatusOr<py::object> PythonStream::NextResponse() {
  if (state_ == State::kNotCalled) {
    absl::Status called = Call();
    if (!called.ok()) return called;
  }
  if (objects_->pending) return std::exchange(objects_->pending, {});
  if (!objects_->responses) return py::object();
  auto response = py::reinterpret_steal<py::object>(PyIter_Next(objects_->responses.ptr()));
  if (!response && PyErr_Occurred() != nullptr) return Failed();
  return response;
}

absl::Status PythonStream::EndWith(absl::Status status) {
  state_ = State::kOver;
  status = objects_->vars.WithoutSecrets(status);
  // What the caller's end said counts, whatever the model made of it.
  if (objects_->feed != nullptr && !objects_->feed->ended().ok()) status = objects_->feed->ended();
  return status;
}

absl::StatusOr<bool> PythonStream::Next(loader::OutputSink& outputs) {
  if (state_ == State::kOver) return false;
  const Gil gil;
  const CallContextVars::Scope scope(objects_->vars);
  ResultWriter writer(plan_, outputs);
  absl::StatusOr<py::object> response = NextResponse();
  if (!response.ok()) return EndWith(response.status());
  if (objects_->feed != nullptr && !objects_->feed->ended().ok()) return EndWith({});
  if (!*response) {
    state_ = State::kOver;
    return false;
  }
  absl::Status written = writer.Write(*response);
  if (absl::IsResourceExhausted(written)) {
    objects_->pending = *std::move(response);
    return written;
  }
  if (!written.ok()) return EndWith(ModelError(model_, "", written));
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<loader::ModelStream>> StartPythonStream(
    const ModelName& model, const MethodPlan& plan, loader::CallContext& call,
    std::span<const TensorView> inputs, loader::ItemSource& items) {
  const Gil gil;
  auto objects = std::make_unique<PythonStream::Objects>(call, plan.has_views);
  // `inputs` may be all, or without those that are streamed.
  std::vector<TensorView> all(plan.method.signature.inputs.size());
  size_t given = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const bool skip = plan.streamed == i && inputs.size() < all.size();
    if (!skip && given < inputs.size()) all[i] = inputs[given++];
  }
  absl::Status status = objects->vars.TakeSecrets(all[plan.secrets_input()]);
  if (status.ok()) {
    const CallContextVars::Scope scope(objects->vars);
    status = DecodeParameters(plan, all, objects->lease.owner(), objects->parameters);
  }
  if (!status.ok()) {
    return ModelError(model, plan.method.name, objects->vars.WithoutSecrets(status));
  }
  if (plan.streamed) {
    objects->feed = std::make_shared<ItemFeed>(plan, items);
    objects->parameters[*plan.streamed] = py::cast(objects->feed);
  }
  return std::make_unique<PythonStream>(model, plan, std::move(objects));
}

}  // namespace baton::python

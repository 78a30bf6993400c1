#include "loader/python/python_model.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "loader/python/call_scope.h"
#include "loader/python/interpreter.h"
#include "loader/python/method_plan.h"
#include "loader/python/model_errors.h"
#include "loader/python/python_backend_abi.h"
#include "loader/python/python_log.h"
#include "loader/python/python_stream.h"
#include "loader/python/result_writer.h"
#include "loader/python/unfit_result.h"

namespace baton::python {
namespace {

namespace py = pybind11;

std::string Option(const loader::ModelConfig& config, const std::string& key) {
  const auto found = config.options.find(key);
  return found == config.options.end() ? "" : found->second;
}

absl::StatusOr<bool> ConstructsInStaging(const loader::ModelConfig& config) {
  const std::string when = Option(config, "construct");
  if (when.empty()) return config.device == "host";
  if (when == "staging" || when == "admission") return when == "staging";
  return absl::InvalidArgumentError(absl::StrCat(config.directory,
                                                 "/config.yaml: python.construct: '", when,
                                                 "' is neither 'staging' nor 'admission'"));
}

// It was checked when it was read.
size_t Threads(const loader::ModelConfig& config) {
  size_t threads = 1;
  return absl::SimpleAtoi(Option(config, "num_threads"), &threads) ? std::max<size_t>(threads, 1)
                                                                   : 1;
}

class PythonModel final : public loader::Model {
 public:
  PythonModel(const loader::ModelConfig& config, bool in_staging)
      : model_{config.name, std::filesystem::path(config.file).parent_path().string()},
        file_(config.file),
        in_staging_(in_staging),
        unfit_(Threads(config)) {}
  ~PythonModel() override;

  absl::Status Stage();

  const Signature& signature() const override { return methods_[0].signature; }
  std::span<const Method> methods() const override { return methods_; }
  uint64_t device_bytes() const override { return 0; }
  bool may_warm_up() const override { return false; }
  size_t max_streams() const override { return unfit_.size(); }
  bool concurrent_calls() const override { return unfit_.size() > 1; }

  absl::Status Upload(const loader::DeviceRegion& region) override;
  absl::Status Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    loader::CallContext nothing_kept;
    return RunMethod(0, nothing_kept, inputs, outputs);
  }
  absl::Status RunMethod(size_t method, loader::CallContext& call,
                         std::span<const TensorView> inputs, loader::OutputSink& outputs) override;
  absl::StatusOr<std::unique_ptr<loader::ModelStream>> StartStream(
      size_t method, loader::CallContext& call, std::span<const TensorView> inputs,
      loader::ItemSource& items) override;
  void Cleanup() override;

 private:
  enum class State { kStaged, kUploaded, kCleaned };

  absl::Status ReadClass();
  absl::Status Construct();
  absl::Status RunPlanned(size_t method, loader::CallContext& call,
                          std::span<const TensorView> inputs, loader::OutputSink& outputs);
  py::object TakeUnfit(size_t method, std::span<const TensorView> inputs);
  void KeepUnfit(size_t method, std::span<const TensorView> inputs, py::object result);
  absl::StatusOr<const MethodPlan*> PlanOf(size_t method, size_t inputs, bool streams) const;

  const ModelName model_;
  const std::string file_;
  const bool in_staging_;
  State state_ = State::kStaged;
  std::vector<Method> methods_;
  // Objects of Python's: with the GIL only.
  std::vector<MethodPlan> plans_;
  py::object class_;
  py::object instance_;
  std::vector<UnfitResult> unfit_;  // one for each call that may be under way
  size_t next_unfit_ = 0;           // which is replaced
};

PythonModel::~PythonModel() {
  const Gil gil;
  unfit_.clear();
  plans_.clear();
  instance_ = {};
  class_ = {};
}

absl::Status PythonModel::Stage() {
  const Gil gil;
  absl::Status status = ReadClass();
  if (status.ok() && in_staging_) status = Construct();
  PythonLog::EndLines();
  return status;
}

absl::Status PythonModel::ReadClass() {
  py::object bad_model;
  try {
    const py::module_ load = py::module_::import("baton._load");
    bad_model = load.attr("BadModel");
    const py::object module = load.attr("import_model")(file_);
    class_ = load.attr("find_class")(module, file_);
    plans_ = PlanMethods(load.attr("describe")(class_, file_).cast<py::list>());
  } catch (py::error_already_set& error) {
    if (bad_model && error.matches(bad_model)) {
      return ModelError(model_, "",
                        absl::InvalidArgumentError(py::str(error.value()).cast<std::string>()));
    }
    const bool syntax = error.matches(PyExc_SyntaxError);
    error.restore();
    return TakeModelError(model_, absl::StrCat("importing ", file_),
                          syntax ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kUnknown);
  }
  for (const MethodPlan& plan : plans_) methods_.push_back(plan.method);
  return absl::OkStatus();
}

absl::Status PythonModel::Construct() {
  try {
    instance_ = py::module_::import("baton._load").attr("construct")(class_);
    for (MethodPlan& plan : plans_) plan.function = instance_.attr(plan.method.name.c_str());
  } catch (py::error_already_set& error) {
    error.restore();
    return TakeModelError(model_, "making the model", absl::StatusCode::kUnknown);
  }
  return absl::OkStatus();
}

absl::Status PythonModel::Upload(const loader::DeviceRegion&) {
  if (state_ != State::kStaged) {
    return absl::FailedPreconditionError(
        absl::StrCat("python model '", model_.name, "': Upload is called once"));
  }
  if (!in_staging_) {
    const Gil gil;
    absl::Status constructed = Construct();
    PythonLog::EndLines();
    if (!constructed.ok()) return constructed;
  }
  state_ = State::kUploaded;
  return absl::OkStatus();
}

absl::StatusOr<const MethodPlan*> PythonModel::PlanOf(size_t method, size_t inputs,
                                                      bool streams) const {
  if (state_ != State::kUploaded) {
    return absl::FailedPreconditionError(
        absl::StrCat("python model '", model_.name, "': a call before Upload or after Cleanup"));
  }
  if (method >= plans_.size()) {
    return absl::NotFoundError(
        absl::StrCat("python model '", model_.name, "' has no method ", method));
  }
  const MethodPlan& plan = plans_[method];
  const size_t all = plan.method.signature.inputs.size();
  if (plan.method.streams() != streams || (!streams && inputs != all)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "python model '", model_.name, "': ", plan.method.name,
        plan.method.streams() ? " streams" : " does not stream", ", and takes ", all, " inputs"));
  }
  return &plan;
}

absl::Status PythonModel::RunMethod(size_t method, loader::CallContext& call,
                                    std::span<const TensorView> inputs,
                                    loader::OutputSink& outputs) {
  const absl::StatusOr<const MethodPlan*> plan = PlanOf(method, inputs.size(), /*streams=*/false);
  if (!plan.ok()) return plan.status();
  if (concurrent_calls()) KeepThreadState();
  const Gil gil;
  return RunPlanned(method, call, inputs, outputs);
}

py::object PythonModel::TakeUnfit(size_t method, std::span<const TensorView> inputs) {
  if (unfit_.size() == 1) return unfit_[0].Take(method, inputs);
  for (UnfitResult& unfit : unfit_) {
    if (unfit.Has(method, inputs)) return unfit.Take(method, inputs);
  }
  return {};
}

void PythonModel::KeepUnfit(size_t method, std::span<const TensorView> inputs, py::object result) {
  unfit_[next_unfit_++ % unfit_.size()].Keep(method, inputs, std::move(result));
}

absl::Status PythonModel::RunPlanned(size_t method, loader::CallContext& call,
                                     std::span<const TensorView> inputs,
                                     loader::OutputSink& outputs) {
  const MethodPlan& plan = plans_[method];
  if (const py::object before = TakeUnfit(method, inputs)) {
    absl::Status written = ResultWriter(plan, outputs).WriteLater(before);
    if (absl::IsResourceExhausted(written)) KeepUnfit(method, inputs, before);
    return written;
  }
  CallContextVars vars;
  absl::Status status = vars.TakeSecrets(inputs[plan.secrets_input()]);
  if (!status.ok()) return ModelError(model_, plan.method.name, status);
  const CallContextVars::Scope scope(vars);
  // The order counts: what the model returned, and what it was given, goes
  // before the writer takes its memory back and the lease ends.
  const InputLease lease = plan.has_views ? InputLease(call) : InputLease();
  ResultWriter writer(plan, outputs);
  std::vector<py::object> parameters;
  status = DecodeParameters(plan, inputs, lease.owner(), parameters);
  if (!status.ok()) return ModelError(model_, plan.method.name, vars.WithoutSecrets(status));
  const py::object result = CallMethod(plan, parameters);
  parameters.clear();
  if (!result) {
    return vars.WithoutSecrets(
        TakeModelError(model_, plan.method.name, absl::StatusCode::kUnknown));
  }
  status = writer.Write(result);
  const bool own_secrets = inputs[plan.secrets_input()].dtype != DType::kInvalid;
  if (absl::IsResourceExhausted(status) && !own_secrets && !lease.in_use()) {
    KeepUnfit(method, inputs, writer.ForLater(result));
  }
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  return ModelError(model_, "", vars.WithoutSecrets(status));
}

absl::StatusOr<std::unique_ptr<loader::ModelStream>> PythonModel::StartStream(
    size_t method, loader::CallContext& call, std::span<const TensorView> inputs,
    loader::ItemSource& items) {
  const absl::StatusOr<const MethodPlan*> plan = PlanOf(method, inputs.size(), /*streams=*/true);
  if (!plan.ok()) return plan.status();
  if (concurrent_calls()) KeepThreadState();
  return StartPythonStream(model_, **plan, call, inputs, items);
}

void PythonModel::Cleanup() {
  if (state_ == State::kCleaned) return;
  state_ = State::kCleaned;
  const Gil gil;
  if (!instance_ || !py::hasattr(instance_, "cleanup")) return;
  const auto done =
      py::reinterpret_steal<py::object>(PyObject_CallMethod(instance_.ptr(), "cleanup", nullptr));
  if (!done) PythonLog::Write(absl::StrCat("cleanup: ", TakeErrorText(model_), "\n"));
  PythonLog::EndLines();
}

}  // namespace

absl::StatusOr<std::unique_ptr<loader::Model>> StageModel(const loader::ModelConfig& config) {
  const absl::StatusOr<bool> in_staging = ConstructsInStaging(config);
  if (!in_staging.ok()) return in_staging.status();
  if (config.signature) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.directory, "/config.yaml: signature: leave it out, the annotations in ",
                     config.file, " are the signature"));
  }
  PythonLog::Configure(config.name, config.secrets);
  absl::Status started = StartInterpreter(Option(config, "executable"));
  if (!started.ok()) {
    return absl::Status(started.code(),
                        absl::StrCat(config.directory, ": ", std::string(started.message())));
  }
  auto model = std::make_unique<PythonModel>(config, *in_staging);
  absl::Status staged = model->Stage();
  if (!staged.ok()) return staged;
  return model;
}

}  // namespace baton::python

extern "C" __attribute__((visibility("default"))) uint64_t baton_python_version() {
  return baton::python::kBackendVersion;
}

extern "C" __attribute__((visibility("default"))) void baton_python_stage(
    const baton::loader::ModelConfig& config, baton::python::StagedModel* model) {
  try {
    *model = baton::python::StageModel(config);
  } catch (const std::exception& error) {
    *model = absl::InternalError(absl::StrCat(config.file, ": cannot be staged: ", error.what()));
  }
}

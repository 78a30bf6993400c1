#include "tests/loader/python/python_call.h"

#include <pybind11/eval.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "loader/model_config.h"
#include "loader/python/interpreter.h"
#include "loader/python/value_codec.h"

namespace baton::loader {
namespace {

namespace py = pybind11;
using python::Gil;

std::atomic<int> kept_blocks = 0;

py::dict Names() {
  py::dict names;
  py::exec(
      "import numpy as np\nfrom baton.data_types import *\n"
      "from baton.data_types import NamedFields, Image, Text, Audio, JSON, Frame, Region, Concept",
      names);
  return names;
}

std::string Repr(const py::object& object) { return py::repr(object).cast<std::string>(); }

// What came back as one object, by the rule that value_codec's users have:
// one output that is called "output" is it, output_0... are a tuple, others fields.
absl::StatusOr<std::string> ResultOf(const Signature& signature, const BlockSink& sink) {
  if (!sink.complete()) return absl::InternalError("not every output was allocated once");
  std::vector<py::object> values;
  for (size_t i = 0; i < signature.outputs.size(); ++i) {
    if (signature.outputs[i].name == "baton.context") break;
    auto value = python::Decode(signature.outputs[i], sink.view(i), py::none());
    if (!value.ok()) return value.status();
    values.push_back(*value);
  }
  const std::string& first = signature.outputs[0].name;
  if (first == "output") return Repr(values[0]);
  py::list list;
  py::dict fields;
  for (size_t i = 0; i < values.size(); ++i) {
    list.append(values[i]);
    fields[signature.outputs[i].name.c_str()] = values[i];
  }
  if (first == "output_0") return Repr(py::tuple(list));
  return Repr(Names()["NamedFields"](**fields));
}

}  // namespace

class RequestBlock {
 public:
  RequestBlock(const Method& method, const std::string& arguments, const std::string& secrets) {
    const Gil gil;
    py::dict given;
    try {
      given = py::eval(arguments, Names());
    } catch (const std::exception& error) {
      ADD_FAILURE() << arguments << ": " << error.what();
    }
    if (!secrets.empty()) given["baton.secrets"] = secrets;
    for (const TensorSpec& spec : method.signature.inputs) {
      TensorView& view = views_.emplace_back();
      view.name = spec.name;
      if (spec.streamed || !given.contains(spec.name.c_str())) continue;
      auto encoded = python::Encode(spec, given[spec.name.c_str()]);
      if (!encoded.ok()) {
        ADD_FAILURE() << encoded.status();
        continue;
      }
      Place(view, *encoded);
    }
  }
  ~RequestBlock() {
    for (const auto& [memory, bytes] : memory_) {
      std::memset(memory, 0xee, bytes);
      ::operator delete(memory, kAlignment);
    }
  }
  RequestBlock(const RequestBlock&) = delete;

  const std::vector<TensorView>& views() const { return views_; }
  std::vector<TensorView> ViewsWithoutStreamed(const Method& method) const {
    std::vector<TensorView> views;
    for (size_t i = 0; i < views_.size(); ++i) {
      if (!method.signature.inputs[i].streamed) views.push_back(views_[i]);
    }
    return views;
  }

  void Place(TensorView& view, const python::Encoded& encoded) {
    auto* memory = static_cast<std::byte*>(::operator new(encoded.bytes() + 1, kAlignment));
    memory_.emplace_back(memory, encoded.bytes());
    encoded.Write({memory, encoded.bytes()});
    auto& shape = *shapes_.emplace_back(
        std::make_unique<std::vector<int64_t>>(encoded.shape().begin(), encoded.shape().end()));
    view.dtype = encoded.dtype();
    view.shape = shape;
    view.bytes = {memory, encoded.bytes()};
  }

 private:
  static constexpr std::align_val_t kAlignment{128};
  std::vector<TensorView> views_;
  std::vector<std::unique_ptr<std::vector<int64_t>>> shapes_;
  std::vector<std::pair<std::byte*, size_t>> memory_;
};

namespace {

class TestContext final : public CallContext {
 public:
  TestContext(std::shared_ptr<RequestBlock> block, bool can_keep)
      : block_(std::move(block)), can_keep_(can_keep) {}
  std::shared_ptr<void> KeepInputs() override {
    if (!can_keep_) return nullptr;
    ++kept_blocks;
    return {block_.get(), [block = block_](void*) { --kept_blocks; }};
  }

 private:
  const std::shared_ptr<RequestBlock> block_;
  const bool can_keep_;
};

class TestItems final : public ItemSource {
 public:
  TestItems(const Method& method, const std::vector<std::string>& items) {
    for (const TensorSpec& spec : method.signature.inputs) {
      if (spec.streamed) spec_ = spec;
    }
    Method one;
    one.signature.inputs.push_back(spec_);
    one.signature.inputs[0].streamed = false;
    for (const std::string& item : items) {
      items_.push_back(std::make_unique<RequestBlock>(
          one, absl::StrCat("{'", spec_.name, "': ", item, "}"), ""));
    }
  }
  absl::StatusOr<std::optional<std::span<const TensorView>>> Next() override {
    EXPECT_FALSE(PyGILState_Check()) << "an item is waited for with the GIL";
    if (!end_.ok()) return end_;
    if (taken_ == items_.size()) return std::nullopt;
    return items_[taken_++]->views();
  }
  size_t taken() const { return taken_; }
  void End(const absl::Status& status) { end_ = status; }

 private:
  TensorSpec spec_;
  std::vector<std::unique_ptr<RequestBlock>> items_;
  size_t taken_ = 0;
  absl::Status end_;
};

}  // namespace

std::string PythonModelDirectory(const std::string& name) {
  const char* source = std::getenv("BATON_SOURCE_DIR");
  EXPECT_NE(source, nullptr) << "run me with ctest";
  return absl::StrCat(source == nullptr ? "." : source, "/tests/loader/python/models/", name);
}

absl::StatusOr<std::unique_ptr<Model>> StageDirectory(const std::string& directory) {
  absl::StatusOr<ModelConfig> config = LoadModelConfig(directory);
  if (!config.ok()) return config.status();
  return StageModel(*config);
}

absl::StatusOr<std::unique_ptr<Model>> StartPythonModel(const std::string& directory) {
  absl::StatusOr<std::unique_ptr<Model>> model = StageDirectory(directory);
  if (!model.ok()) return model.status();
  absl::Status uploaded = (*model)->Upload({});
  if (!uploaded.ok()) return uploaded;
  return model;
}

size_t MethodNumber(const Model& model, const std::string& name) {
  const auto methods = model.methods();
  for (size_t i = 0; i < methods.size(); ++i) {
    if (methods[i].name == name) return i;
  }
  ADD_FAILURE() << "there is no method " << name;
  return 0;
}

absl::StatusOr<std::string> CallPython(Model& model, const std::string& name,
                                       const std::string& arguments,
                                       const PythonCallOptions& options) {
  const size_t number = MethodNumber(model, name);
  const Method& method = model.methods()[number];
  auto block = std::make_shared<RequestBlock>(method, arguments, options.secrets);
  TestContext context(block, options.can_keep);
  BlockSink sink(method.signature, options.block_bytes);
  absl::Status run = model.RunMethod(number, context, block->views(), sink);
  if (absl::IsResourceExhausted(run)) {
    return absl::ResourceExhaustedError(absl::StrCat("needs ", sink.needed()));
  }
  if (!run.ok()) return run;
  const Gil gil;
  return ResultOf(method.signature, sink);
}

struct PythonStreamCall::Parts {
  Parts(const Method& method, const std::string& arguments, const std::vector<std::string>& items,
        const std::string& secrets)
      : method(method),
        block(std::make_shared<RequestBlock>(method, arguments, secrets)),
        context(block, /*can_keep=*/true),
        items(method, items),
        views(block->ViewsWithoutStreamed(method)) {}

  const Method& method;
  std::shared_ptr<RequestBlock> block;
  TestContext context;
  TestItems items;
  std::vector<TensorView> views;
  std::unique_ptr<ModelStream> stream;
};

PythonStreamCall::PythonStreamCall(Model& model, const std::string& method,
                                   const std::string& arguments, std::vector<std::string> items,
                                   const std::string& secrets) {
  const size_t number = MethodNumber(model, method);
  parts_ = std::make_unique<Parts>(model.methods()[number], arguments, items, secrets);
  auto stream = model.StartStream(number, parts_->context, parts_->views, parts_->items);
  started_ = stream.status();
  if (stream.ok()) parts_->stream = *std::move(stream);
}

PythonStreamCall::~PythonStreamCall() { Destroy(); }

void PythonStreamCall::Destroy() { parts_->stream = nullptr; }
size_t PythonStreamCall::items_taken() const { return parts_->items.taken(); }
void PythonStreamCall::EndItems(const absl::Status& status) { parts_->items.End(status); }

absl::StatusOr<std::string> PythonStreamCall::Next(size_t block_bytes) {
  BlockSink sink(parts_->method.signature, block_bytes);
  const absl::StatusOr<bool> more = parts_->stream->Next(sink);
  if (absl::IsResourceExhausted(more.status())) return "<too small>";
  if (!more.ok()) return more.status();
  if (!*more) return "<end>";
  const Gil gil;
  return ResultOf(parts_->method.signature, sink);
}

int KeptBlocks() { return kept_blocks; }

}  // namespace baton::loader

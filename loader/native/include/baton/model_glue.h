// Between baton::Model and the C interface. Included by baton/model.h; nothing
// here is for authors of models.
#ifndef BATON_MODEL_GLUE_H_
#define BATON_MODEL_GLUE_H_

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "baton/model.h"

namespace baton {

// Text of an error that the host fills for us.
namespace model_glue {

struct ErrorText {
  ErrorText() { text[0] = '\0'; }  // not all of it: this is on the way of each request
  char text[512];
  BatonError error = {sizeof(BatonError), sizeof(text), text};
};

}  // namespace model_glue

inline void DeviceMemory::Write(uint64_t offset, std::span<const std::byte> from) const {
  if (offset > region_.bytes || from.size() > region_.bytes - offset) {
    throw ModelError(BATON_INVALID_ARGUMENT, "a write past the end of the device memory");
  }
  model_glue::ErrorText text;
  const int32_t code = region_.copy(region_.context, region_.address + offset, from.data(),
                                    from.size(), &text.error);
  if (code != BATON_OK) throw ModelError(code, text.text);
}

inline std::optional<std::span<std::byte>> Outputs::TryAllocateBytes(
    size_t index, std::span<const int64_t> shape) {
  model_glue::ErrorText text;
  void* data = nullptr;
  uint64_t bytes = 0;
  const int32_t code =
      outputs_.allocate(outputs_.context, static_cast<uint32_t>(index), shape.data(),
                        static_cast<uint32_t>(shape.size()), &data, &bytes, &text.error);
  if (code == BATON_RESOURCE_EXHAUSTED) return std::nullopt;
  if (code != BATON_OK) throw ModelError(code, text.text);
  return std::span(static_cast<std::byte*>(data), bytes);
}

namespace model_glue {

inline void View(const BatonTensor* inputs, uint32_t count, std::vector<TensorView>& views) {
  views.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    const BatonTensor& input = inputs[i];
    views[i] = TensorView();
    views[i].name = {input.name, input.name_bytes};
    views[i].dtype = static_cast<DType>(input.dtype);
    views[i].shape = {input.shape, input.rank};
    views[i].bytes = {static_cast<const std::byte*>(input.data), input.bytes};
  }
}

}  // namespace model_glue

inline std::optional<std::span<const TensorView>> Items::Next() {
  model_glue::ErrorText text;
  const BatonTensor* inputs = nullptr;
  uint32_t count = 0;
  int32_t there = 0;
  const int32_t code = items_.next(items_.context, &inputs, &count, &there, &text.error);
  if (code != BATON_OK) throw ModelError(code, text.text);
  if (there == 0) return std::nullopt;
  model_glue::View(inputs, count, views_);
  return views_;
}

namespace model_glue {

inline int32_t Fail(BatonError* error, int32_t code, const char* message) {
  if (error != nullptr && error->message != nullptr && error->capacity > 0) {
    const size_t size = std::min<size_t>(std::strlen(message), error->capacity - 1);
    std::memcpy(error->message, message, size);
    error->message[size] = '\0';
  }
  return code == BATON_OK ? BATON_INTERNAL : code;
}

// Runs `body` and makes codes of its exceptions: none may pass the C interface.
template <typename Body>
int32_t Guard(BatonError* error, Body&& body) noexcept {
  try {
    body();
    return BATON_OK;
  } catch (const ModelError& failure) {
    return Fail(error, failure.code(), failure.what());
  } catch (const std::invalid_argument& failure) {
    return Fail(error, BATON_INVALID_ARGUMENT, failure.what());
  } catch (const std::exception& failure) {
    return Fail(error, BATON_INTERNAL, failure.what());
  } catch (...) {
    return Fail(error, BATON_INTERNAL, "an exception that is no std::exception");
  }
}

inline std::vector<BatonTensorSpec> Specs(const std::vector<TensorSpec>& specs) {
  std::vector<BatonTensorSpec> result;
  for (const TensorSpec& spec : specs) {
    result.push_back({.name = spec.name.c_str(),
                      .shape = spec.shape.data(),
                      .rank = static_cast<uint32_t>(spec.shape.size()),
                      .dtype = static_cast<uint32_t>(spec.dtype)});
  }
  return result;
}

// Methods, and all that their description in C points into.
class HeldMethods {
 public:
  explicit HeldMethods(std::vector<Method> methods)
      : methods_(std::move(methods)), parameters_(2 * methods_.size()) {
    for (size_t i = 0; i < methods_.size(); ++i) {
      const Method& method = methods_[i];
      std::vector<BatonParameter>& inputs = parameters_[2 * i];
      std::vector<BatonParameter>& outputs = parameters_[2 * i + 1];
      inputs = Parameters(method.signature.inputs);
      outputs = Parameters(method.signature.outputs);
      const int flags = (method.streams_inputs ? BATON_METHOD_STREAMS_INPUTS : 0) |
                        (method.streams_outputs ? BATON_METHOD_STREAMS_OUTPUTS : 0);
      c_methods_.push_back({.struct_size = sizeof(BatonMethod),
                            .flags = static_cast<uint32_t>(flags),
                            .name = method.name.c_str(),
                            .doc = method.doc.c_str(),
                            .input_count = static_cast<uint32_t>(inputs.size()),
                            .output_count = static_cast<uint32_t>(outputs.size()),
                            .inputs = inputs.data(),
                            .outputs = outputs.data()});
    }
  }
  HeldMethods(const HeldMethods&) = delete;
  HeldMethods& operator=(const HeldMethods&) = delete;
  const std::vector<BatonMethod>& get() const { return c_methods_; }

 private:
  static std::vector<BatonParameter> Parameters(const std::vector<TensorSpec>& specs) {
    std::vector<BatonParameter> result;
    const std::vector<BatonTensorSpec> c_specs = Specs(specs);
    for (size_t i = 0; i < specs.size(); ++i) {
      const int flags = (specs[i].optional ? BATON_PARAMETER_OPTIONAL : 0) |
                        (specs[i].streamed ? BATON_PARAMETER_STREAMED : 0);
      result.push_back({.struct_size = sizeof(BatonParameter),
                        .flags = static_cast<uint32_t>(flags),
                        .content = static_cast<uint32_t>(specs[i].content),
                        .reserved = 0,
                        .spec = c_specs[i],
                        .type_text = specs[i].type_text.c_str(),
                        .default_text = specs[i].default_text.c_str()});
    }
    return result;
  }

  const std::vector<Method> methods_;
  std::vector<std::vector<BatonParameter>> parameters_;
  std::vector<BatonMethod> c_methods_;
};

// A stream with what it may look at as long as it lives.
struct HeldStream {
  explicit HeldStream(const BatonItems& c_items) : items(c_items) {}
  Items items;
  std::vector<TensorView> inputs;
  std::unique_ptr<ModelStream> stream;
};

// A model with all that the C interface points into.
class Holder {
 public:
  explicit Holder(std::unique_ptr<Model> model)
      : model_(std::move(model)), signature_(model_->signature()), methods_(model_->methods()) {
    inputs_ = Specs(signature_.inputs);
    outputs_ = Specs(signature_.outputs);
    c_signature_ = {.struct_size = sizeof(BatonSignature),
                    .input_count = static_cast<uint32_t>(inputs_.size()),
                    .output_count = static_cast<uint32_t>(outputs_.size()),
                    .reserved = 0,
                    .inputs = inputs_.data(),
                    .outputs = outputs_.data()};
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  Model& model() { return *model_; }
  const BatonSignature& signature() const { return c_signature_; }
  const std::vector<BatonMethod>& methods() const { return methods_.get(); }

  void Run(const BatonTensor* inputs, uint32_t count, const BatonOutputs& c_outputs) {
    if (count != inputs_.size()) throw ModelError(BATON_INTERNAL, "not the signature's inputs");
    View(inputs, count, views_);
    Outputs outputs(c_outputs);
    model_->Run(views_, outputs);
  }
  void RunMethod(uint32_t method, const BatonTensor* inputs, uint32_t count,
                 const BatonOutputs& c_outputs) {
    View(inputs, count, views_);
    Outputs outputs(c_outputs);
    model_->RunMethod(method, views_, outputs);
  }
  std::unique_ptr<HeldStream> StartStream(uint32_t method, const BatonTensor* inputs,
                                          uint32_t count, const BatonItems& items) {
    auto held = std::make_unique<HeldStream>(items);
    View(inputs, count, held->inputs);
    held->stream = model_->StartStream(method, held->inputs, held->items);
    if (held->stream == nullptr) throw ModelError(BATON_INTERNAL, "StartStream gave no stream");
    return held;
  }

 private:
  std::unique_ptr<Model> model_;
  const Signature signature_;
  const HeldMethods methods_;
  std::vector<BatonTensorSpec> inputs_;
  std::vector<BatonTensorSpec> outputs_;
  BatonSignature c_signature_ = {};
  std::vector<TensorView> views_;  // of one run; kept, so that Run allocates nothing
};

// `Registration` is a type of the library's own, in an unnamed namespace. A static
// variable in an inline function would be shared by all libraries of a process.
template <typename Registration>
int32_t Stage(const BatonStageArgs* args, void** model, BatonError* error) {
  return Guard(error, [&] {
    ModelContext context{
        .name = args->name, .directory = args->directory, .device = args->device, .options = {}};
    for (uint64_t i = 0; i < args->option_count; ++i) {
      context.options[args->options[i].key] = args->options[i].value;
    }
    std::unique_ptr<Model> made = Registration::Make(context);
    if (made == nullptr) throw ModelError(BATON_INTERNAL, "the factory gave no model");
    *model = new Holder(std::move(made));
  });
}

inline void Destroy(void* model) {
  (void)Guard(nullptr, [&] { delete static_cast<Holder*>(model); });
}

inline int32_t GetSignature(void* model, const BatonSignature** signature, BatonError*) {
  *signature = &static_cast<Holder*>(model)->signature();
  return BATON_OK;
}

inline int32_t DeviceBytes(void* model, uint64_t* bytes, BatonError* error) {
  return Guard(error, [&] { *bytes = static_cast<Holder*>(model)->model().device_bytes(); });
}

inline int32_t Upload(void* model, const BatonDeviceRegion* region, BatonError* error) {
  return Guard(error, [&] { static_cast<Holder*>(model)->model().Upload(DeviceMemory(*region)); });
}

inline int32_t Run(void* model, const BatonTensor* inputs, uint32_t count,
                   const BatonOutputs* outputs, BatonError* error) {
  return Guard(error, [&] { static_cast<Holder*>(model)->Run(inputs, count, *outputs); });
}

inline int32_t Cleanup(void* model, BatonError* error) {
  return Guard(error, [&] { static_cast<Holder*>(model)->model().Cleanup(); });
}

inline int32_t GetMethods(void* model, const BatonMethod** methods, uint32_t* count, BatonError*) {
  const std::vector<BatonMethod>& all = static_cast<Holder*>(model)->methods();
  *methods = all.data();
  *count = static_cast<uint32_t>(all.size());
  return BATON_OK;
}

inline uint32_t MaxStreams(void* model) {
  uint32_t most = 1;
  (void)Guard(nullptr, [&] {
    most = static_cast<uint32_t>(static_cast<Holder*>(model)->model().max_streams());
  });
  return most;
}

inline int32_t RunMethod(void* model, uint32_t method, const BatonTensor* inputs, uint32_t count,
                         const BatonOutputs* outputs, BatonError* error) {
  return Guard(error,
               [&] { static_cast<Holder*>(model)->RunMethod(method, inputs, count, *outputs); });
}

inline int32_t StartStream(void* model, uint32_t method, const BatonTensor* inputs, uint32_t count,
                           const BatonItems* items, void** stream, BatonError* error) {
  return Guard(error, [&] {
    *stream = static_cast<Holder*>(model)->StartStream(method, inputs, count, *items).release();
  });
}

inline int32_t Next(void* stream, const BatonOutputs* c_outputs, int32_t* given,
                    BatonError* error) {
  return Guard(error, [&] {
    Outputs outputs(*c_outputs);
    *given = static_cast<HeldStream*>(stream)->stream->Next(outputs) ? 1 : 0;
  });
}

inline void EndStream(void* stream) {
  (void)Guard(nullptr, [&] { delete static_cast<HeldStream*>(stream); });
}

template <typename Registration>
const BatonModelApi* Api(uint32_t baton_abi_version) {
  if (baton_abi_version >> 16 != BATON_MODEL_ABI_MAJOR) return nullptr;
  static const BatonModelApi api = {.struct_size = sizeof(BatonModelApi),
                                    .abi_version = BATON_MODEL_ABI_VERSION,
                                    .stage = Stage<Registration>,
                                    .destroy = Destroy,
                                    .signature = GetSignature,
                                    .device_bytes = DeviceBytes,
                                    .upload = Upload,
                                    .run = Run,
                                    .cleanup = Cleanup,
                                    .methods = GetMethods,
                                    .max_streams = MaxStreams,
                                    .run_method = RunMethod,
                                    .start_stream = StartStream,
                                    .next = Next,
                                    .end_stream = EndStream};
  return &api;
}

}  // namespace model_glue
}  // namespace baton

#endif  // BATON_MODEL_GLUE_H_

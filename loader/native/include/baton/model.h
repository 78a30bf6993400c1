// Native models in C++: derive from baton::Model, register, build a shared
// library (CMake: link Baton::model), and name it in config.yaml:
//
//   class Doubler final : public baton::Model {
//    public:
//     explicit Doubler(const baton::ModelContext&) {}
//     baton::Signature signature() const override {
//       return {.inputs = {{"x", baton::DType::kFloat32, {baton::kDynamicDim}}},
//               .outputs = {{"y", baton::DType::kFloat32, {baton::kDynamicDim}}}};
//     }
//     void Run(std::span<const baton::TensorView> inputs, baton::Outputs& outputs) override {
//       std::span<float> y = outputs.Allocate<float>(0, inputs[0].shape);
//       for (size_t i = 0; i < y.size(); ++i) y[i] = 2 * inputs[0].As<float>()[i];
//     }
//   };
//   BATON_REGISTER_MODEL(Doubler)
//
// Header-only: a library needs nothing of Baton at run time, and works with
// every Baton of the same ABI major version (baton/model_abi.h).
//
// Errors are exceptions: std::invalid_argument becomes INVALID_ARGUMENT,
// baton::ModelError the code it carries, anything else INTERNAL. The message
// goes to the caller of the service, so it should hold no secrets.
//
// Thread safety: Baton calls a model from one thread at a time.
#ifndef BATON_MODEL_H_
#define BATON_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "baton/model_abi.h"
#include "baton/tensor.h"

namespace baton {

// An error with a code of its own, such as BATON_NOT_FOUND.
class ModelError : public std::runtime_error {
 public:
  ModelError(int32_t code, const std::string& message) : std::runtime_error(message), code_(code) {}
  int32_t code() const { return code_; }

 private:
  int32_t code_;
};

// What a model is made from. Secrets are in the environment: std::getenv.
struct ModelContext {
  std::string name;
  std::string directory;                       // absolute: weights lie there
  std::string device;                          // "host"
  std::map<std::string, std::string> options;  // native: {options: {...}} of config.yaml

  std::string Option(const std::string& key, const std::string& otherwise = "") const {
    const auto found = options.find(key);
    return found == options.end() ? otherwise : found->second;
  }
};

// Device memory that Baton set aside for this model. On the device "host",
// `address` is a pointer.
class DeviceMemory {
 public:
  explicit DeviceMemory(const BatonDeviceRegion& region) : region_(region) {}
  uint64_t address() const { return region_.address; }
  uint64_t bytes() const { return region_.bytes; }
  // Copies host bytes to `offset`; `from` may be reused when it returns.
  void Write(uint64_t offset, std::span<const std::byte> from) const;

 private:
  BatonDeviceRegion region_;
};

// Where Run writes its results: in place, into the caller's response.
class Outputs {
 public:
  explicit Outputs(const BatonOutputs& outputs) : outputs_(outputs) {}

  // Memory for output `index` of the signature: dense, 128-byte aligned,
  // uninitialised, valid until Run returns. Once for each output. Throws
  // ModelError when the caller's response is too small: let it pass.
  std::span<std::byte> AllocateBytes(size_t index, std::span<const int64_t> shape) {
    const auto block = TryAllocateBytes(index, shape);
    if (!block) throw ModelError(BATON_RESOURCE_EXHAUSTED, "the response is too small");
    return *block;
  }
  // The same, without an exception where it is too small. A model with several
  // outputs of dynamic shape allocates all of them this way and throws then, so
  // that the caller learns the full size at once.
  std::optional<std::span<std::byte>> TryAllocateBytes(size_t index,
                                                       std::span<const int64_t> shape);

  // As elements of the output's type.
  template <typename T>
  std::span<T> Allocate(size_t index, std::span<const int64_t> shape) {
    const std::span<std::byte> block = AllocateBytes(index, shape);
    return {reinterpret_cast<T*>(block.data()), block.size() / sizeof(T)};
  }
  template <typename T>
  std::span<T> Allocate(size_t index, std::initializer_list<int64_t> shape) {
    return Allocate<T>(index, std::span<const int64_t>(shape.begin(), shape.size()));
  }

 private:
  const BatonOutputs& outputs_;
};

// The items that the caller of a stream sends.
class Items {
 public:
  explicit Items(const BatonItems& items) : items_(items) {}
  Items(const Items&) = delete;
  Items& operator=(const Items&) = delete;
  // On the thread that called the stream. Waits for the next: the streamed inputs, in
  // the signature's order, valid until the next call. nullopt when there are no more. Throws
  // ModelError when the caller has gone or its time is over: let it pass.
  std::optional<std::span<const TensorView>> Next();

 private:
  const BatonItems& items_;
  std::vector<TensorView> views_;
};

// A call that gives any number of responses. Destroyed at its end, or before, where
// its caller has cancelled it.
class ModelStream {
 public:
  virtual ~ModelStream() = default;
  // Writes the next response; false: there is none. What it throws ends the
  // stream, but where the response was too small: then it is called again, and
  // has to give the same one, so remember what you have given after allocating.
  virtual bool Next(Outputs& outputs) = 0;
};

class Model {
 public:
  virtual ~Model() = default;

  // Asked once, after construction. Of the first method, where there are several.
  virtual Signature signature() const {
    const std::vector<Method> all = methods();
    if (all.empty()) throw ModelError(BATON_INTERNAL, "the model has no signature");
    return all.front().signature;
  }

  // For a model that can be asked for several things, or for streams: what they
  // are; asked once. Their numbers are their places here.
  virtual std::vector<Method> methods() const { return {}; }
  // Streams that may be under way at once; while so many are, no other request is
  // started. With 1 a call never meets another one half done, and all come on one
  // thread. With more, a stream that gets items has a thread of its own, and while it
  // waits in Items::Next other calls come, on other threads; calls never run at the
  // same time.
  virtual size_t max_streams() const { return 1; }

  // Device bytes that Upload needs; asked once, after signature().
  virtual uint64_t device_bytes() const { return 0; }
  // Puts the weights on the device; `memory` has device_bytes() or more. The
  // constructor must not take device memory: another worker has it still.
  virtual void Upload(const DeviceMemory& memory) { (void)memory; }

  // Runs once. `inputs` are in the signature's order, checked against it, and
  // valid until Run returns.
  virtual void Run(std::span<const TensorView> inputs, Outputs& outputs) {
    (void)inputs, (void)outputs;
    throw ModelError(BATON_UNIMPLEMENTED, "the model overrides neither Run nor RunMethod");
  }
  // The same of a model with methods(), of one that does not stream. An optional
  // input that was left out has the dtype kInvalid.
  virtual void RunMethod(size_t method, std::span<const TensorView> inputs, Outputs& outputs) {
    (void)method;
    Run(inputs, outputs);
  }
  // Of one that streams. `inputs` (those that are not streamed) and `items` are
  // valid as long as the stream.
  virtual std::unique_ptr<ModelStream> StartStream(size_t method,
                                                   std::span<const TensorView> inputs,
                                                   Items& items) {
    (void)method, (void)inputs, (void)items;
    throw ModelError(BATON_UNIMPLEMENTED, "the model does not override StartStream");
  }

  // After the last Run, bounded by reload.cleanup_timeout; a crash skips it.
  virtual void Cleanup() {}
};

}  // namespace baton

#include "baton/model_glue.h"  // IWYU pragma: export

// Makes `Type` the library's model: constructed with a ModelContext. Once in a
// library, outside of any namespace.
#define BATON_REGISTER_MODEL(Type)                                                                \
  static ::std::unique_ptr<::baton::Model> BatonMakeModel(const ::baton::ModelContext& context) { \
    return ::std::make_unique<Type>(context);                                                     \
  }                                                                                               \
  BATON_REGISTER_MODEL_FACTORY(BatonMakeModel)

// The same with a function of a ModelContext that returns a unique_ptr<Model>.
#define BATON_REGISTER_MODEL_FACTORY(factory)                                             \
  namespace {                                                                             \
  struct BatonRegistration {                                                              \
    static ::std::unique_ptr<::baton::Model> Make(const ::baton::ModelContext& made) {    \
      return factory(made);                                                               \
    }                                                                                     \
  };                                                                                      \
  }                                                                                       \
  extern "C" __attribute__((visibility("default"))) const BatonModelApi* baton_model_api( \
      uint32_t version) {                                                                 \
    return ::baton::model_glue::Api<BatonRegistration>(version);                          \
  }

#endif  // BATON_MODEL_H_

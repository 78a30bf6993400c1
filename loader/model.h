// The one interface behind which every kind of model stands.
//
// A model lives in a worker and passes through these states, in this order,
// each entered once:
//   staged    constructed by StageModel(): code loaded, config and weights
//             checked, weights in host memory; no device memory held
//   uploaded  Upload() has put what it needs on the device
//   cleaned   Cleanup() has run; only the destructor may follow
//
// Thread safety: calls come from one thread at a time, Stage and Upload included;
// those of its streams, too. That is always the worker's serving thread where
// max_streams() is 1. Where it is more, a stream may have a thread of its own, and
// while it waits in ItemSource::Next others call: as it says at max_streams() and
// concurrent_calls().
#ifndef BATON_LOADER_MODEL_H_
#define BATON_LOADER_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/device.h"
#include "loader/model_config.h"

namespace baton::loader {

// Where a model writes its results: straight into the block that the front
// loaned for this response.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  // Memory for output `index` of the signature, dense, of `shape`: 128-byte
  // aligned, uninitialised, valid until Run returns. Call once per output, in
  // any order. RESOURCE_EXHAUSTED when the loaned block is too small: return
  // that status from Run, and the front is told the size that would do. To
  // have that size complete, call Allocate for every output before giving up.
  virtual absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                        std::span<const int64_t> shape) = 0;
  // As Allocate, of a dtype: for an output whose dtype in the signature is kAny.
  virtual absl::StatusOr<std::span<std::byte>> AllocateAs(size_t index, DType dtype,
                                                          std::span<const int64_t> shape) {
    static_cast<void>(dtype);
    return Allocate(index, shape);
  }

  // Whether the caller wants the results on the model's device. A model that
  // has them there then calls AllocateOnDevice instead, and nothing is copied;
  // what was Allocated is copied there when Run has returned.
  virtual bool on_device() const { return false; }
  // As Allocate, of device memory; its address there. To be written when Run
  // returns.
  virtual absl::StatusOr<uint64_t> AllocateOnDevice(size_t index, std::span<const int64_t> shape) {
    static_cast<void>(index), static_cast<void>(shape);
    return absl::UnimplementedError("results go to the host");
  }
};

// Device memory that the worker sets aside for the model's Upload.
struct DeviceRegion {
  ipc::Device* device = nullptr;
  uint64_t address = 0;
  uint64_t bytes = 0;
};

// What a call knows of itself beside its inputs.
class CallContext {
 public:
  virtual ~CallContext() = default;
  // Lets the inputs stay as they are after the call has been answered: their
  // block is not used again while the result lives. nullptr where that cannot
  // be had. May be destroyed on any thread. For models that hand out views of
  // their inputs which others may keep; each keeps a block and a place in the
  // channel's ring.
  virtual std::shared_ptr<void> KeepInputs() { return nullptr; }
};

// The items that a caller sends to a method which streams its inputs.
class ItemSource {
 public:
  virtual ~ItemSource() = default;
  // On the thread that called the model. Waits for the next item: the streamed inputs, in the
  // signature's order, valid until the next call or the stream's end. nullopt when there are no
  // more. CANCELLED, DEADLINE_EXCEEDED or ABORTED when the caller has gone, its
  // time is over or the worker must end: end the stream with that status.
  virtual absl::StatusOr<std::optional<std::span<const TensorView>>> Next() = 0;
};

// A call that gives more than one response. The destructor ends it, whether it
// has come to its end or its caller has cancelled it.
class ModelStream {
 public:
  virtual ~ModelStream() = default;
  // Writes the next response into `outputs`; false when there is none, and
  // nothing is written. RESOURCE_EXHAUSTED when the sink is too small: it is
  // called once more, with more room, and has to give the same response. Any
  // other error ends the stream.
  virtual absl::StatusOr<bool> Next(OutputSink& outputs) = 0;
};

class Model {
 public:
  virtual ~Model() = default;

  // Of the first method.
  virtual const Signature& signature() const = 0;

  // All of them, in an order that does not change. Empty: one, "predict", of
  // signature(), that streams nothing.
  virtual std::span<const Method> methods() const { return {}; }

  // Device bytes that Upload needs; 0 when the model keeps none. Constant.
  virtual uint64_t device_bytes() const = 0;

  // Puts weights on the device. `region.bytes` >= device_bytes().
  virtual absl::Status Upload(const DeviceRegion& region) = 0;

  // Runs once. `inputs` are in the signature's order, already checked against
  // it (name, dtype, rank, fixed dimensions), and stay valid until Run
  // returns. An error is answered to the caller with its message.
  // An optional input that was left out has the dtype kInvalid.
  virtual absl::Status Run(std::span<const TensorView> inputs, OutputSink& outputs) = 0;

  // As Run, of the method with that index.
  virtual absl::Status RunMethod(size_t method, CallContext& call,
                                 std::span<const TensorView> inputs, OutputSink& outputs) {
    static_cast<void>(method), static_cast<void>(call);
    return Run(inputs, outputs);
  }

  // Starts a call of a method that streams. `inputs` (those that are not
  // streamed) and `items` stay valid until the stream is destroyed.
  virtual absl::StatusOr<std::unique_ptr<ModelStream>> StartStream(
      size_t method, CallContext& call, std::span<const TensorView> inputs, ItemSource& items) {
    static_cast<void>(method), static_cast<void>(call), static_cast<void>(inputs);
    static_cast<void>(items);
    return absl::UnimplementedError("this model has no method that streams");
  }

  // Whether Run may be tried on zeros before the first request, to have what
  // the first call would otherwise pay for. Not where a call has effects.
  virtual bool may_warm_up() const { return true; }

  // Calls that may be under way at once, streams or, on threads of their own, others;
  // while so many are, none is started. With 1 a call never meets another one half
  // done. With more, a method that streams its inputs has its StartStream, all its
  // Nexts and its stream's end called on one thread, and while it waits for an item
  // other calls come, on other threads. Constant once staged.
  virtual size_t max_streams() const { return 1; }

  // With max_streams() > 1: whether RunMethod, StartStream and the functions of
  // different streams may be called at the same time, from as many threads. Each call
  // has one thread from its beginning to its end; a thread has another call then, and
  // ends before Cleanup. Calls are started in the order in which they came, and may
  // end in another. Constant once staged.
  virtual bool concurrent_calls() const { return false; }

  // Whether Run also takes inputs that lie on the model's GPU: `bytes` empty,
  // `device_address` set, in its context. Where not, they are copied to the host
  // first. Constant once uploaded.
  virtual bool takes_device_inputs() const { return false; }

  // Gives the model's own resources back. Called at most once, after the last
  // Run; must not rely on being called (a crash skips it).
  virtual void Cleanup() {}
};

// The model's methods, also where it says nothing of them: at least one.
std::vector<Method> MethodsOf(const Model& model);

// Brings the model of `config` to the state `staged`. Every error names the
// file, and the tensor, line or symbol in it. Cost: reads the weights.
absl::StatusOr<std::unique_ptr<Model>> StageModel(const ModelConfig& config);

}  // namespace baton::loader

#endif  // BATON_LOADER_MODEL_H_

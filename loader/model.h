// The one interface behind which every kind of model stands.
//
// A model lives in a worker and passes through these states, in this order,
// each entered once:
//   staged    constructed by StageModel(): code loaded, config and weights
//             checked, weights in host memory; no device memory held
//   uploaded  Upload() has put what it needs on the device
//   cleaned   Cleanup() has run; only the destructor may follow
//
// Thread safety: calls come from one thread at a time (the worker's serving
// thread), Stage and Upload included.
#ifndef BATON_LOADER_MODEL_H_
#define BATON_LOADER_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

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

class Model {
 public:
  virtual ~Model() = default;

  virtual const Signature& signature() const = 0;

  // Device bytes that Upload needs; 0 when the model keeps none. Constant.
  virtual uint64_t device_bytes() const = 0;

  // Puts weights on the device. `region.bytes` >= device_bytes().
  virtual absl::Status Upload(const DeviceRegion& region) = 0;

  // Runs once. `inputs` are in the signature's order, already checked against
  // it (name, dtype, rank, fixed dimensions), and stay valid until Run
  // returns. An error is answered to the caller with its message.
  virtual absl::Status Run(std::span<const TensorView> inputs, OutputSink& outputs) = 0;

  // Gives the model's own resources back. Called at most once, after the last
  // Run; must not rely on being called (a crash skips it).
  virtual void Cleanup() {}
};

// Brings the model of `config` to the state `staged`. Every error names the
// file, and the tensor, line or symbol in it. Cost: reads the weights.
absl::StatusOr<std::unique_ptr<Model>> StageModel(const ModelConfig& config);

}  // namespace baton::loader

#endif  // BATON_LOADER_MODEL_H_

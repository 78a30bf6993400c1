// Lays a model's outputs out in a loaned response block and describes them.
//
// Block: description (room for any shapes of this signature) | outputs, each
// on a 128-byte boundary, in the order in which the model asked for them. With
// a block on the device the outputs lie there in the same way, from its start.
//
// Thread safety: none. The serving thread's; while a call runs on a thread of its
// own, that has what it is to the model, an OutputSink (call_threads.h). No
// allocation for shapes that were described before.
#ifndef BATON_RUNTIME_WORKER_RESPONSE_WRITER_H_
#define BATON_RUNTIME_WORKER_RESPONSE_WRITER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/device.h"
#include "loader/model.h"
#include "runtime/worker/likeness.h"
#include "runtime/worker/response_descriptions.h"

namespace baton::runtime {

// Where results go on the device. Nowhere without bytes.
struct DeviceResultBlock {
  ipc::Device* device = nullptr;
  uint64_t address = 0;
  uint64_t bytes = 0;
};

class ResponseWriter : public loader::OutputSink {
 public:
  // How a written response is described.
  struct Description {
    uint64_t token = 0;
    uint32_t bytes = 0;
  };

  // Both must outlive this.
  ResponseWriter(const Signature& signature, ResponseDescriptions& descriptions);

  using DeviceBlock = DeviceResultBlock;

  // Starts a response in `block`; what was written before is forgotten.
  // Without a device there is nothing to copy: a copy of what a caller has just put together
  // waits until that has left the store buffer, behind lines that are still on their way.
  void Begin(std::span<std::byte> block) {
    device_ = {};
    BeginIn(block);
  }
  void Begin(std::span<std::byte> block, const DeviceBlock& device) {
    device_ = device;
    BeginIn(block);
  }

  absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                std::span<const int64_t> shape) override;
  absl::StatusOr<std::span<std::byte>> AllocateAs(size_t index, DType dtype,
                                                  std::span<const int64_t> shape) override;
  bool on_device() const override { return device_.bytes > 0; }
  absl::StatusOr<uint64_t> AllocateOnDevice(size_t index, std::span<const int64_t> shape) override;

  // Copies to the device what was allocated on the host and is to go there, and
  // writes the description. INTERNAL when the model left an output out.
  absl::StatusOr<Description> Finish();

  // What the response of a request in a batch looks like.
  struct Like {
    Likeness outputs = 0;  // of what the model gave (BatchOutputs::alike)
    uint64_t rows = 0;
    friend bool operator==(const Like&, const Like&) = default;
  };
  // After a Finish that was OK, with no block on the device: what was written is `like`
  // that, and may be repeated until the next Begin.
  void Remember(const Like& like) { repeats_ = like; }
  // Does what Begin, AllocateAs of each output and Finish would do for a response that is
  // `like` the one remembered. False, and nothing has happened: there is no such one, or
  // `block` is too small.
  bool Repeat(const Like& like, std::span<std::byte> block, Description* description);
  // Where output `index` goes, after Repeat.
  std::span<std::byte> Repeated(size_t index) const {
    return block_.subspan(outputs_[index].offset, outputs_[index].bytes);
  }

  // Where the first output of a response goes, in a block on the host.
  uint64_t first_offset() const { return reserve_; }
  // The blocks that would hold everything that was asked for.
  uint64_t needed_bytes() const { return on_device() ? reserve_ : cursor_; }
  uint64_t needed_device_bytes() const { return on_device() ? cursor_ : 0; }

 private:
  void BeginIn(std::span<std::byte> block);
  DType SpecDType(size_t index) const {
    return index < outputs_.size() ? signature_.outputs[index].dtype : DType::kInvalid;
  }
  // Checks a dtype and shape against the signature, and notes them in outputs_[index].
  absl::Status Learn(size_t index, DType dtype, std::span<const int64_t> shape);
  absl::Status Place(size_t index, DType dtype, std::span<const int64_t> shape);
  absl::Status CopyToDevice();
  // Finds out what outputs_ are described by: last_.
  absl::Status Describe();

  const Signature& signature_;
  ResponseDescriptions& descriptions_;
  const uint64_t reserve_;
  std::span<std::byte> block_;
  DeviceBlock device_;
  uint64_t cursor_ = 0;  // in the block that the results go to
  // Results on their way to a device that the CPU cannot write, by output.
  std::vector<std::vector<std::byte>> bounce_;
  std::vector<size_t> bounced_;
  std::vector<WrittenOutput> outputs_;
  size_t placed_ = 0;    // of outputs_
  bool changed_ = true;  // one of them, since last_ was given
  const ResponseDescriptions::Prepared* last_ = nullptr;
  uint64_t last_token_ = 0;  // of *last_, as long as it is that
  Like repeats_;             // what was written last; no outputs: not to be repeated
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_RESPONSE_WRITER_H_

// Descriptions of requests that were parsed and checked, kept under the tokens
// that the front gave them, so that a request that looks like one before costs
// no parsing.
//
// Thread safety: none; belongs to one channel, on the serving thread.
#ifndef BATON_RUNTIME_WORKER_KNOWN_REQUESTS_H_
#define BATON_RUNTIME_WORKER_KNOWN_REQUESTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/channel_layout.h"
#include "ipc/descriptor.h"
#include "runtime/worker/device_inputs.h"
#include "runtime/worker/likeness.h"

namespace baton::runtime {

// Once made it changes no more but for where the inputs are, which is set for
// each block: whoever uses it longer than one call keeps it (shared_from_this)
// and the views of its own block.
struct KnownRequest : std::enable_shared_from_this<KnownRequest> {
  uint64_t token = 0;
  uint32_t method = 0;
  bool item = false;              // of a stream, not a request
  uint64_t rows = 0;              // the first dimension of every input; 0: there is no such number
  uint64_t end = 0;               // bytes of a block that it uses
  uint64_t device_end = 0;        // and of one on the device
  Likeness alike = 0;             // of the batches whose inputs it was found to look like
  std::vector<TensorSpec> specs;  // what it was checked against
  std::vector<ipc::TensorLayout> layouts;
  std::vector<InputPlace> places;  // in the order of `specs`
  std::vector<TensorView> inputs;  // likewise; where they are is of the block shown last

  // Where the inputs are when the request lies in `block`, which has `end` bytes.
  // Those on the device are shown by DeviceInputs.
  void Show(std::span<const std::byte> block) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const InputPlace& place = places[i];
      if (!place.on_device) inputs[i].bytes = block.subspan(place.offset, place.bytes);
    }
  }
};

// What names a description in a block.
struct DescriptionName {
  uint64_t token = 0;  // 0: no name, it is parsed each time
  uint32_t bytes = 0;
  uint32_t method = 0;
  bool item = false;
  uint64_t device_bytes = 0;  // of the block with its inputs on the device; 0: there is none
};

class KnownRequests {
 public:
  // The request that is described in `block`, a block with a header, from memory
  // or else parsed and checked against the inputs of `signature` that come with
  // a start, or with an item. Valid until the next call, or for as long as it is
  // kept. INVALID_ARGUMENT when it cannot be right.
  absl::StatusOr<KnownRequest*> Get(const DescriptionName& name, std::span<const std::byte> block,
                                    const Signature& signature);

  // As Get, from memory alone: nullptr is not yet a refusal.
  KnownRequest* Recall(const DescriptionName& name, uint64_t block_bytes) const {
    KnownRequest* const known = known_[name.token % ipc::kMaxPlans].get();
    const bool is_it = known != nullptr && name.token != 0 && known->token == name.token &&
                       known->method == name.method && known->item == name.item &&
                       known->end <= block_bytes && known->device_end <= name.device_bytes;
    return is_it ? known : nullptr;
  }

  // The one that is known by `token`; nullptr: none is.
  KnownRequest* Find(uint64_t token) const {
    KnownRequest* const known = known_[token % ipc::kMaxPlans].get();
    return token != 0 && known != nullptr && known->token == token ? known : nullptr;
  }

 private:
  // Every token that a channel can have, by its low bits.
  std::array<std::shared_ptr<KnownRequest>, ipc::kMaxPlans> known_;
  std::shared_ptr<KnownRequest> unnamed_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_KNOWN_REQUESTS_H_

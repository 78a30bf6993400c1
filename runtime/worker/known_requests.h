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

namespace baton::runtime {

// Once made it changes no more but for where the inputs are, which is set for
// each block: whoever uses it longer than one call keeps it (shared_from_this)
// and the views of its own block.
struct KnownRequest : std::enable_shared_from_this<KnownRequest> {
  uint64_t token = 0;
  uint32_t method = 0;
  bool item = false;              // of a stream, not a request
  uint64_t end = 0;               // bytes of a block that it uses
  std::vector<TensorSpec> specs;  // what it was checked against
  std::vector<ipc::TensorLayout> layouts;
  std::vector<uint64_t> offsets;   // in the order of `specs`
  std::vector<TensorView> inputs;  // likewise; `bytes` are of the block shown last

  // Where the inputs are when the request lies in `block`, which has `end` bytes.
  void Show(std::span<const std::byte> block) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      inputs[i].bytes = block.subspan(offsets[i], inputs[i].bytes.size());
    }
  }
};

// What names a description in a block.
struct DescriptionName {
  uint64_t token = 0;  // 0: no name, it is parsed each time
  uint32_t bytes = 0;
  uint32_t method = 0;
  bool item = false;
};

class KnownRequests {
 public:
  // The request that is described in `block`, a block with a header, from memory
  // or else parsed and checked against the inputs of `signature` that come with
  // a start, or with an item. Valid until the next call, or for as long as it is
  // kept. INVALID_ARGUMENT when it cannot be right.
  absl::StatusOr<KnownRequest*> Get(const DescriptionName& name, std::span<const std::byte> block,
                                    const Signature& signature);

 private:
  // Every token that a channel can have, by its low bits.
  std::array<std::shared_ptr<KnownRequest>, ipc::kMaxPlans> known_;
  std::shared_ptr<KnownRequest> unnamed_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_KNOWN_REQUESTS_H_

// Parsed descriptions of responses, kept under the names that the worker gave
// them, so that a response that looks like one before costs no parsing.
//
// Thread safety: none; belongs to one method of one channel.
#ifndef BATON_RUNTIME_FRONT_RESPONSE_LAYOUTS_H_
#define BATON_RUNTIME_FRONT_RESPONSE_LAYOUTS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/descriptor.h"

namespace baton::internal {

// Where the outputs of a response are, in the signature's order. Lives as long
// as a lease uses it.
struct ResponseLayout {
  uint64_t generation = 0;
  uint64_t token = 0;
  uint64_t serial = 0;      // of no other layout of this process
  uint64_t end = 0;         // bytes of a block that it uses
  uint64_t device_end = 0;  // and of one on the device
  std::vector<ipc::TensorLayout> tensors;
  std::vector<uint32_t> order;
  uint32_t uses = 0;
  bool kept = false;
};

class ResponseLayouts {
 public:
  explicit ResponseLayouts(const Signature& signature) : signature_(signature) {}
  ~ResponseLayouts();
  ResponseLayouts(const ResponseLayouts&) = delete;
  ResponseLayouts& operator=(const ResponseLayouts&) = delete;

  // The layout that generation and token name, from memory, or else parsed
  // from `described` (in shared memory; copied before it is looked at) and
  // checked against the signature, a block of `block_bytes` and one of
  // `device_bytes` on the device. The caller
  // gives it back with Release. INVALID_ARGUMENT when it cannot be right.
  absl::StatusOr<ResponseLayout*> Get(uint64_t generation, uint64_t token,
                                      std::span<const std::byte> described, uint64_t block_bytes,
                                      uint64_t device_bytes = 0);
  static void Release(ResponseLayout* layout);

 private:
  static constexpr size_t kKept = 64;

  const Signature& signature_;
  std::array<ResponseLayout*, kKept> kept_{};
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_RESPONSE_LAYOUTS_H_

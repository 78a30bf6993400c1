// The description at the start of a block: a Cap'n Proto Request or Response
// that says which tensors lie where in it.
//
// Writers prepare a description once and copy it into each block; readers keep
// the parsed form of those that they have checked. Both live off the hot path.
//
// Thread safety: free functions, no state.
#ifndef BATON_IPC_DESCRIPTOR_H_
#define BATON_IPC_DESCRIPTOR_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/tensor.h"

namespace baton::ipc {

// One tensor of a block: dense, row-major. `offset` counts from the start of
// the block that it lies in, on the host or on the device.
struct TensorLayout {
  std::string name;
  DType dtype = DType::kInvalid;
  std::vector<int64_t> shape;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  bool on_device = false;

  friend bool operator==(const TensorLayout&, const TensorLayout&) = default;
};

// A description as bytes, ready to be copied into a block.
using DescriptorBytes = std::vector<std::byte>;

// RESOURCE_EXHAUSTED when the message would exceed kMaxDescriptorBytes.
absl::StatusOr<DescriptorBytes> EncodeRequest(std::span<const TensorLayout> inputs);
absl::StatusOr<DescriptorBytes> EncodeResponse(std::span<const TensorLayout> outputs);

// Parse and check a description. `bytes` must be private memory: what is
// checked here is what the caller will use. Everything is INVALID_ARGUMENT
// that names the tensor: too many tensors, unknown dtype, bad shape, wrong
// size, not dense, misaligned, or not inside its block: of `block_bytes` on
// the host, of `device_bytes` on the device (0: there is none).
absl::StatusOr<std::vector<TensorLayout>> ParseRequest(std::span<const std::byte> bytes,
                                                       uint64_t block_bytes,
                                                       uint64_t device_bytes = 0);
absl::StatusOr<std::vector<TensorLayout>> ParseResponse(std::span<const std::byte> bytes,
                                                        uint64_t block_bytes,
                                                        uint64_t device_bytes = 0);

// Bytes to set aside at the start of a block for the description of any
// tensors with these names and up to kMaxRank dimensions; a multiple of 128.
uint64_t DescriptorReserve(std::span<const TensorSpec> specs);

// The first bytes that `layouts` need in a block on the host, or on the device;
// 0 when there are none.
uint64_t LayoutEnd(std::span<const TensorLayout> layouts);
uint64_t DeviceLayoutEnd(std::span<const TensorLayout> layouts);

inline constexpr uint32_t kNoLayout = ~0u;

// Checks that `layouts` are what `specs` ask for, in any order, and gives for
// each spec the index of its layout, kNoLayout for an optional one that was
// left out. INVALID_ARGUMENT says which tensor is
// missing, unknown, twice there, of the wrong dtype or shape, and what was
// expected.
absl::StatusOr<std::vector<uint32_t>> MatchSpecs(std::span<const TensorSpec> specs,
                                                 std::span<const TensorLayout> layouts);

}  // namespace baton::ipc

#endif  // BATON_IPC_DESCRIPTOR_H_

// What each CUDA kernel is given: one struct, by value. Addresses are device
// addresses; sizes are checked by whoever launches (kernels.h).
//
// C++17 that the device compiler and the host's both read. A kernel's name and
// its struct belong together: a change of a struct changes the kernel, the
// reference (reference_kernels.cc) and the launch (kernels.cc).
#ifndef BATON_KERNELS_CUDA_KERNEL_ARGS_H_
#define BATON_KERNELS_CUDA_KERNEL_ARGS_H_

#include <cstdint>
#include <type_traits>

#include "kernels/float_type.h"

namespace baton::kernels::cuda {

// Threads of a block, of every kernel: their tiles and reductions are cut for it.
inline constexpr unsigned kBlockThreads = 256;

// Arguments of a kernel may take 4 KiB in all, on every device.
inline constexpr unsigned kMaxArgsBytes = 4096;

// baton_pack and baton_unpack: row blocks here, the dense batch there. The
// blocks travel in the arguments: no list has to be uploaded first.
inline constexpr uint32_t kMaxRowBlocks = 128;

struct DeviceRowBlock {
  uint64_t address = 0;    // of its first row
  uint64_t first_row = 0;  // where it lies in the batch
  uint64_t rows = 0;
};

struct RowBlocksArgs {
  uint64_t batch = 0;
  uint64_t row_bytes = 0;
  uint32_t block_count = 0;  // 1..kMaxRowBlocks
  uint32_t reserved = 0;
  DeviceRowBlock blocks[kMaxRowBlocks] = {};
};

// baton_cast: see kernels/cast.h. Both addresses are aligned to their element.
struct CastArgs {
  uint64_t input = 0;
  uint64_t output = 0;
  uint64_t count = 0;
  FloatType input_type = FloatType::kFloat32;
  FloatType output_type = FloatType::kFloat32;
};

// baton_digest: ADDS the digest of the bytes to the u64 at `result`, which was
// set to zero before (every block of threads adds its part).
struct DigestArgs {
  uint64_t input = 0;
  uint64_t bytes = 0;
  uint64_t result = 0;  // aligned to 8
};

// What one block of baton_dense computes.
inline constexpr unsigned kDenseTileRows = 64;
inline constexpr unsigned kDenseTileColumns = 64;

enum class Activation : uint32_t { kNone = 0, kRelu = 1 };

// baton_dense: output = activation(input x weights + bias), float32.
struct DenseArgs {
  uint64_t input = 0;    // [rows, inputs]
  uint64_t weights = 0;  // packed as kernels/dense.h says; aligned to 16
  uint64_t bias = 0;     // [PaddedColumns(outputs)]
  uint64_t output = 0;   // [rows, outputs]
  uint64_t rows = 0;
  uint64_t inputs = 0;
  uint64_t outputs = 0;
  Activation activation = Activation::kNone;
  uint32_t reserved = 0;
};

// baton_softmax_rows: in place.
struct SoftmaxRowsArgs {
  uint64_t values = 0;  // [rows, columns], float32
  uint64_t rows = 0;
  uint64_t columns = 0;  // not 0
};

// Both compilers must lay them out alike, and a rebuilt host must not launch a
// kernel of another layout: these numbers are the layout.
static_assert(sizeof(DeviceRowBlock) == 24);
static_assert(sizeof(RowBlocksArgs) == 24 + 24 * kMaxRowBlocks);
static_assert(sizeof(CastArgs) == 32);
static_assert(sizeof(DigestArgs) == 24);
static_assert(sizeof(DenseArgs) == 64);
static_assert(sizeof(SoftmaxRowsArgs) == 24);
static_assert(sizeof(RowBlocksArgs) <= kMaxArgsBytes);
static_assert(std::is_trivially_copyable<RowBlocksArgs>::value &&
              std::is_trivially_copyable<CastArgs>::value &&
              std::is_trivially_copyable<DigestArgs>::value &&
              std::is_trivially_copyable<DenseArgs>::value &&
              std::is_trivially_copyable<SoftmaxRowsArgs>::value);

}  // namespace baton::kernels::cuda

#endif  // BATON_KERNELS_CUDA_KERNEL_ARGS_H_

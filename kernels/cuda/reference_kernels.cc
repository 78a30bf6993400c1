#include "kernels/cuda/reference_kernels.h"

#include <algorithm>
#include <array>

#include "kernels/cast.h"
#include "kernels/cuda/kernel_args.h"
#include "kernels/dense.h"
#include "kernels/digest.h"
#include "kernels/pack.h"

namespace baton::kernels::cuda {
namespace {

// Device ranges as arrays on the host; remembers whether all of them were good.
class Ranges {
 public:
  explicit Ranges(const AddressMap& memory) : memory_(memory) {}

  // Nullptr for an empty array, too, which is no failure.
  template <class Element>
  const Element* Read(uint64_t address, uint64_t count, uint64_t alignment = alignof(Element)) {
    return At<Element>(address, count, alignment, Access::kRead);
  }
  template <class Element>
  Element* Write(uint64_t address, uint64_t count, uint64_t alignment = alignof(Element)) {
    return At<Element>(address, count, alignment, Access::kWrite);
  }
  bool ok() const { return ok_; }

 private:
  template <class Element>
  Element* At(uint64_t address, uint64_t count, uint64_t alignment, Access access) {
    if (count == 0) return nullptr;
    std::byte* at = nullptr;
    if (address % alignment == 0 && count <= UINT64_MAX / sizeof(Element)) {
      at = memory_(address, count * sizeof(Element), access);
    }
    if (at == nullptr) ok_ = false;
    return reinterpret_cast<Element*>(at);
  }

  const AddressMap& memory_;
  bool ok_ = true;
};

bool GridWorks(const Grid& grid) {
  return grid.x >= 1 && grid.x <= kMaxGridX && grid.y >= 1 && grid.y <= kMaxGridY && grid.z == 1 &&
         grid.block_x == kBlockThreads && grid.block_y == 1 && grid.block_z == 1;
}

// A kernel whose threads stride over all of its work.
bool StridedGridWorks(const Grid& grid) { return GridWorks(grid) && grid.y == 1; }

template <bool kPack>
bool RunRowBlocks(const void* raw, const AddressMap& memory, const Grid& grid) {
  const auto& args = *static_cast<const RowBlocksArgs*>(raw);
  if (!GridWorks(grid) || grid.y != args.block_count || args.block_count > kMaxRowBlocks) {
    return false;
  }
  Ranges ranges(memory);
  for (const DeviceRowBlock& block : std::span(args.blocks, args.block_count)) {
    if (args.row_bytes != 0 && block.rows > UINT64_MAX / args.row_bytes) return false;
    const uint64_t bytes = block.rows * args.row_bytes;
    const uint64_t batch = args.batch + block.first_row * args.row_bytes;
    if constexpr (kPack) {
      const RowBlock from{.data = ranges.Read<std::byte>(block.address, bytes), .rows = block.rows};
      auto* const to = ranges.Write<std::byte>(batch, bytes);
      if (!ranges.ok()) return false;
      Pack({&from, 1}, args.row_bytes, to);
    } else {
      const auto* const from = ranges.Read<std::byte>(batch, bytes);
      const MutableRowBlock to{.data = ranges.Write<std::byte>(block.address, bytes),
                               .rows = block.rows};
      if (!ranges.ok()) return false;
      Unpack(from, args.row_bytes, {&to, 1});
    }
  }
  return true;
}

bool RunCast(const void* raw, const AddressMap& memory, const Grid& grid) {
  const auto& args = *static_cast<const CastArgs*>(raw);
  if (!StridedGridWorks(grid) || args.input_type > FloatType::kBfloat16 ||
      args.output_type > FloatType::kBfloat16 || args.count > UINT64_MAX / 4) {
    return false;
  }
  Ranges ranges(memory);
  const uint64_t input_bytes = FloatBytes(args.input_type);
  const uint64_t output_bytes = FloatBytes(args.output_type);
  const void* const input =
      ranges.Read<std::byte>(args.input, args.count * input_bytes, input_bytes);
  void* const output =
      ranges.Write<std::byte>(args.output, args.count * output_bytes, output_bytes);
  if (!ranges.ok()) return false;
  Cast({.input = input,
        .output = output,
        .count = args.count,
        .input_type = args.input_type,
        .output_type = args.output_type});
  return true;
}

bool RunDigest(const void* raw, const AddressMap& memory, const Grid& grid) {
  const auto& args = *static_cast<const DigestArgs*>(raw);
  if (!StridedGridWorks(grid)) return false;
  Ranges ranges(memory);
  const auto* const input = ranges.Read<std::byte>(args.input, args.bytes);
  auto* const result = ranges.Write<uint64_t>(args.result, 1);
  if (!ranges.ok()) return false;
  *result += Digest({input, args.bytes});
  return true;
}

bool RunDense(const void* raw, const AddressMap& memory, const Grid& grid) {
  const auto& args = *static_cast<const DenseArgs*>(raw);
  const Grid needed = GridOf(args);
  if (!GridWorks(grid) || !DenseFits(args) || grid.x != needed.x || grid.y != needed.y ||
      args.activation > Activation::kRelu) {
    return false;
  }
  const uint64_t stride = PaddedColumns(args.outputs);
  if (args.inputs != 0 && std::max(stride, args.rows) > UINT64_MAX / args.inputs) return false;
  Ranges ranges(memory);
  const auto* const input = ranges.Read<float>(args.input, args.rows * args.inputs);
  const auto* const weights = ranges.Read<float>(args.weights, args.inputs * stride, 16);
  const auto* const bias = ranges.Read<float>(args.bias, stride);
  auto* const output = ranges.Write<float>(args.output, args.rows * args.outputs);
  if (!ranges.ok()) return false;
  MatMulBias({.input = input,
              .weights = weights,
              .bias = bias,
              .output = output,
              .rows = args.rows,
              .inputs = args.inputs,
              .outputs = args.outputs});
  if (args.activation == Activation::kRelu) Relu({output, args.rows * args.outputs});
  return true;
}

bool RunSoftmaxRows(const void* raw, const AddressMap& memory, const Grid& grid) {
  const auto& args = *static_cast<const SoftmaxRowsArgs*>(raw);
  if (!StridedGridWorks(grid) || args.columns == 0 || args.rows > UINT64_MAX / 4 / args.columns) {
    return false;
  }
  Ranges ranges(memory);
  auto* const values = ranges.Write<float>(args.values, args.rows * args.columns);
  if (!ranges.ok()) return false;
  SoftmaxRows({values, args.rows * args.columns}, args.columns);
  return true;
}

constexpr std::array<ReferenceKernel, 6> kReferenceKernels = {{
    {"baton_pack", sizeof(RowBlocksArgs), RunRowBlocks<true>},
    {"baton_unpack", sizeof(RowBlocksArgs), RunRowBlocks<false>},
    {"baton_cast", sizeof(CastArgs), RunCast},
    {"baton_digest", sizeof(DigestArgs), RunDigest},
    {"baton_dense", sizeof(DenseArgs), RunDense},
    {"baton_softmax_rows", sizeof(SoftmaxRowsArgs), RunSoftmaxRows},
}};

}  // namespace

std::span<const ReferenceKernel> ReferenceKernels() { return kReferenceKernels; }

}  // namespace baton::kernels::cuda

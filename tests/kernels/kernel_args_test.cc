// Compiled as C++17: the lowest that both compilers are promised to need.
#include "kernels/cuda/kernel_args.h"

#include <cstddef>

#include "gtest/gtest.h"

namespace baton::kernels::cuda {
namespace {

// The layout that a compiled image was built for, and that a simulated device
// reads: a change of a struct has to be seen here.
TEST(KernelArgsTest, FieldsLieWhereTheKernelsReadThem) {
  EXPECT_EQ(offsetof(DeviceRowBlock, address), 0u);
  EXPECT_EQ(offsetof(DeviceRowBlock, first_row), 8u);
  EXPECT_EQ(offsetof(DeviceRowBlock, rows), 16u);
  EXPECT_EQ(offsetof(RowBlocksArgs, batch), 0u);
  EXPECT_EQ(offsetof(RowBlocksArgs, row_bytes), 8u);
  EXPECT_EQ(offsetof(RowBlocksArgs, block_count), 16u);
  EXPECT_EQ(offsetof(RowBlocksArgs, blocks), 24u);
  EXPECT_EQ(sizeof(RowBlocksArgs), 3096u);
  EXPECT_EQ(offsetof(CastArgs, input), 0u);
  EXPECT_EQ(offsetof(CastArgs, output), 8u);
  EXPECT_EQ(offsetof(CastArgs, count), 16u);
  EXPECT_EQ(offsetof(CastArgs, input_type), 24u);
  EXPECT_EQ(offsetof(CastArgs, output_type), 28u);
  EXPECT_EQ(offsetof(DigestArgs, input), 0u);
  EXPECT_EQ(offsetof(DigestArgs, bytes), 8u);
  EXPECT_EQ(offsetof(DigestArgs, result), 16u);
  EXPECT_EQ(offsetof(DenseArgs, input), 0u);
  EXPECT_EQ(offsetof(DenseArgs, weights), 8u);
  EXPECT_EQ(offsetof(DenseArgs, bias), 16u);
  EXPECT_EQ(offsetof(DenseArgs, output), 24u);
  EXPECT_EQ(offsetof(DenseArgs, rows), 32u);
  EXPECT_EQ(offsetof(DenseArgs, inputs), 40u);
  EXPECT_EQ(offsetof(DenseArgs, outputs), 48u);
  EXPECT_EQ(offsetof(DenseArgs, activation), 56u);
  EXPECT_EQ(offsetof(SoftmaxRowsArgs, values), 0u);
  EXPECT_EQ(offsetof(SoftmaxRowsArgs, rows), 8u);
  EXPECT_EQ(offsetof(SoftmaxRowsArgs, columns), 16u);
}

TEST(KernelArgsTest, NumbersOfTheEnums) {
  EXPECT_EQ(static_cast<uint32_t>(FloatType::kFloat32), 0u);
  EXPECT_EQ(static_cast<uint32_t>(FloatType::kFloat16), 1u);
  EXPECT_EQ(static_cast<uint32_t>(FloatType::kBfloat16), 2u);
  EXPECT_EQ(static_cast<uint32_t>(Activation::kNone), 0u);
  EXPECT_EQ(static_cast<uint32_t>(Activation::kRelu), 1u);
}

}  // namespace
}  // namespace baton::kernels::cuda

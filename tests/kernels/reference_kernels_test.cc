#include "kernels/cuda/reference_kernels.h"

#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "kernels/cuda/kernel_args.h"
#include "kernels/digest.h"

namespace baton::kernels::cuda {
namespace {

// 64 KiB of "device memory" at an address that is none of the host's.
class ReferenceKernelsTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBase = 0x7000'0000'0000;

  template <class Args>
  bool Run(std::string_view name, const Args& args) {
    return Run(name, args, GridOf(args));
  }
  template <class Args>
  bool Run(std::string_view name, const Args& args, const Grid& grid) {
    for (const ReferenceKernel& kernel : ReferenceKernels()) {
      if (kernel.name != name) continue;
      EXPECT_EQ(kernel.args_bytes, sizeof(args));
      return kernel.run(&args, map_, grid);
    }
    ADD_FAILURE() << "no kernel " << name;
    return false;
  }
  std::byte* Host(uint64_t offset) { return memory_.data() + offset; }
  template <class Element>
  Element Get(uint64_t offset) {
    Element value;
    std::memcpy(&value, Host(offset), sizeof(value));
    return value;
  }
  template <class Element>
  void Put(uint64_t offset, Element value) {
    std::memcpy(Host(offset), &value, sizeof(value));
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(65536);
  // As memory that another process has exported read-only.
  void MakeReadOnly(uint64_t offset, uint64_t bytes) {
    read_only_begin_ = offset;
    read_only_end_ = offset + bytes;
  }

  uint64_t read_only_begin_ = 0;
  uint64_t read_only_end_ = 0;
  AddressMap map_ = [this](uint64_t address, uint64_t bytes, Access access) -> std::byte* {
    EXPECT_GT(bytes, 0u);
    if (address < kBase || bytes > memory_.size() || address - kBase > memory_.size() - bytes) {
      return nullptr;
    }
    const uint64_t offset = address - kBase;
    const bool read_only = offset < read_only_end_ && offset + bytes > read_only_begin_;
    return access == Access::kWrite && read_only ? nullptr : memory_.data() + offset;
  };
};

TEST_F(ReferenceKernelsTest, PackAndUnpackTranslateEachBlock) {
  RowBlocksArgs args{.batch = kBase + 1000, .row_bytes = 4, .block_count = 2};
  args.blocks[0] = {.address = kBase + 100, .first_row = 0, .rows = 1};
  args.blocks[1] = {.address = kBase + 200, .first_row = 1, .rows = 2};
  Put<uint32_t>(100, 11);
  Put<uint32_t>(200, 22);
  Put<uint32_t>(204, 33);
  ASSERT_TRUE(Run("baton_pack", args));
  EXPECT_EQ(Get<uint32_t>(1000), 11u);
  EXPECT_EQ(Get<uint32_t>(1004), 22u);
  EXPECT_EQ(Get<uint32_t>(1008), 33u);
  Put<uint32_t>(1008, 44);
  ASSERT_TRUE(Run("baton_unpack", args));
  EXPECT_EQ(Get<uint32_t>(204), 44u);
  args.blocks[1].rows = 1 << 20;
  EXPECT_FALSE(Run("baton_pack", args));
  EXPECT_FALSE(Run("baton_unpack", args));
}

TEST_F(ReferenceKernelsTest, Cast) {
  CastArgs args{.input = kBase,
                .output = kBase + 64,
                .count = 2,
                .input_type = FloatType::kFloat32,
                .output_type = FloatType::kFloat16};
  Put(0, 1.0f);
  Put(4, -2.0f);
  ASSERT_TRUE(Run("baton_cast", args));
  EXPECT_EQ(Get<uint16_t>(64), 0x3c00);
  EXPECT_EQ(Get<uint16_t>(66), 0xc000);
  args.input = kBase + 2;  // a device faults on it, too
  EXPECT_FALSE(Run("baton_cast", args));
  args.input = kBase + memory_.size() - 4;
  EXPECT_FALSE(Run("baton_cast", args));
}

TEST_F(ReferenceKernelsTest, DigestAdds) {
  const DigestArgs args{.input = kBase + 1, .bytes = 77, .result = kBase + 1024};
  Put<uint64_t>(1024, 5);
  ASSERT_TRUE(Run("baton_digest", args));
  EXPECT_EQ(Get<uint64_t>(1024), 5 + Digest({Host(1), 77}));
  EXPECT_FALSE(Run("baton_digest", DigestArgs{.input = 1, .bytes = 77, .result = kBase + 1024}));
  EXPECT_FALSE(Run("baton_digest", DigestArgs{.input = kBase, .bytes = 77, .result = 8}));
}

TEST_F(ReferenceKernelsTest, DenseAndSoftmax) {
  // One row, two inputs, one output: 3 * 2 + 1 * -10 + 1 = -3.
  DenseArgs args{.input = kBase,
                 .weights = kBase + 64,
                 .bias = kBase + 256,
                 .output = kBase + 512,
                 .rows = 1,
                 .inputs = 2,
                 .outputs = 1,
                 .activation = Activation::kNone};
  Put(0, 3.0f);
  Put(4, 1.0f);
  Put(64, 2.0f);
  Put(128, -10.0f);
  Put(256, 1.0f);
  ASSERT_TRUE(Run("baton_dense", args));
  EXPECT_EQ(Get<float>(512), -3.0f);
  args.activation = Activation::kRelu;
  ASSERT_TRUE(Run("baton_dense", args));
  EXPECT_EQ(Get<float>(512), 0.0f);
  args.weights = kBase + memory_.size() - 64;  // the second row of weights lies outside
  EXPECT_FALSE(Run("baton_dense", args));

  ASSERT_TRUE(
      Run("baton_softmax_rows", SoftmaxRowsArgs{.values = kBase + 2048, .rows = 2, .columns = 4}));
  EXPECT_EQ(Get<float>(2048 + 28), 0.25f);
}

TEST_F(ReferenceKernelsTest, OnlyOutputsAreWritten) {
  MakeReadOnly(0, 1024);
  RowBlocksArgs rows{.batch = kBase + 4096, .row_bytes = 4, .block_count = 1};
  rows.blocks[0] = {.address = kBase, .first_row = 0, .rows = 2};
  EXPECT_TRUE(Run("baton_pack", rows));
  EXPECT_FALSE(Run("baton_unpack", rows));
  CastArgs cast{.input = kBase, .output = kBase + 4096, .count = 4};
  EXPECT_TRUE(Run("baton_cast", cast));
  std::swap(cast.input, cast.output);
  EXPECT_FALSE(Run("baton_cast", cast));
  DigestArgs digest{.input = kBase, .bytes = 100, .result = kBase + 4096};
  EXPECT_TRUE(Run("baton_digest", digest));
  digest.result = kBase + 8;
  EXPECT_FALSE(Run("baton_digest", digest));
  DenseArgs dense{.input = kBase,
                  .weights = kBase + 64,
                  .bias = kBase + 256,
                  .output = kBase + 4096,
                  .rows = 1,
                  .inputs = 1,
                  .outputs = 1};
  EXPECT_TRUE(Run("baton_dense", dense));
  dense.output = kBase + 512;
  EXPECT_FALSE(Run("baton_dense", dense));
  SoftmaxRowsArgs softmax{.values = kBase + 4096, .rows = 1, .columns = 4};
  EXPECT_TRUE(Run("baton_softmax_rows", softmax));
  softmax.values = kBase;
  EXPECT_FALSE(Run("baton_softmax_rows", softmax));
}

// A launch that would leave work out, or go wrong, on a device fails here too.
TEST_F(ReferenceKernelsTest, AGridThatDoesNotFitIsRefused) {
  DenseArgs dense{.input = kBase,
                  .weights = kBase,
                  .bias = kBase,
                  .output = kBase + 32768,
                  .rows = 65,
                  .inputs = 1,
                  .outputs = 65};
  Grid grid = GridOf(dense);
  EXPECT_EQ(grid.x, 2u);
  EXPECT_EQ(grid.y, 2u);
  EXPECT_TRUE(Run("baton_dense", dense, grid));
  for (unsigned Grid::*dimension : {&Grid::x, &Grid::y, &Grid::block_x}) {
    Grid small = grid;
    small.*dimension -= 1;
    EXPECT_FALSE(Run("baton_dense", dense, small));
  }
  const DigestArgs digest{.input = kBase, .bytes = 8, .result = kBase + 8};
  EXPECT_FALSE(Run("baton_digest", digest, Grid{.x = 0}));
  EXPECT_FALSE(Run("baton_digest", digest, Grid{.block_x = 128}));
  EXPECT_FALSE(Run("baton_digest", digest, Grid{.y = 2}));
}

}  // namespace
}  // namespace baton::kernels::cuda

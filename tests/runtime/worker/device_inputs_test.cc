// What a worker makes of where a front says that its inputs are.
#include "runtime/worker/device_inputs.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/device.h"
#include "tests/loader/allocation_counter.h"
#include "tests/loader/heap_device.h"

namespace baton::runtime {
namespace {

constexpr uint64_t kArena = 64 << 10;
constexpr DeviceSlice kSlice = {.offset = 8192, .bytes = 16384};
constexpr uint32_t kSliceGranules = kSlice.bytes / ipc::kGranuleBytes;

class DeviceInputsTest : public ::testing::Test {
 protected:
  // A device of that name; its memory holds 0, 1, 2, ...
  void Use(const std::string& name) {
    device_.emplace(name);
    region_ = device_->Region(kArena);
    auto* const bytes = reinterpret_cast<uint8_t*>(region_.address);
    std::iota(bytes, bytes + kArena, uint8_t{0});
    inputs_.UseDevice(
        {.device = &*device_, .slices_address = region_.address, .slices_bytes = kArena});
  }
  absl::StatusOr<DeviceInputs::Block> Find(uint32_t granule, uint32_t granules,
                                           uint32_t generation = 1) {
    header_.input_granule = granule;
    header_.input_granules = granules;
    header_.input_generation = generation;
    return inputs_.Find(header_);
  }
  const std::byte* At(uint64_t address) { return reinterpret_cast<const std::byte*>(address); }

  std::optional<loader::HeapDevice> device_;
  loader::DeviceRegion region_;
  DeviceInputs inputs_{kSlice};
  ipc::RequestBlockHeader header_{};
};

TEST_F(DeviceInputsTest, ABlockIsInsideTheChannelsSlice) {
  Use("host");
  const absl::StatusOr<DeviceInputs::Block> block = Find(3, 5, 77);
  ASSERT_TRUE(block.ok()) << block.status();
  EXPECT_EQ(block->address, region_.address + kSlice.offset + 3 * ipc::kGranuleBytes);
  EXPECT_EQ(block->bytes, 5 * ipc::kGranuleBytes);
  EXPECT_EQ(block->generation, 77u);
  EXPECT_TRUE(Find(0, kSliceGranules).ok());
  EXPECT_TRUE(Find(kSliceGranules - 1, 1).ok());
  // No granules: they are in the request's own block, whatever the rest says.
  EXPECT_EQ(Find(~0u, 0)->bytes, 0u);
}

TEST_F(DeviceInputsTest, WhatIsOutsideIsRefused) {
  Use("host");
  const std::pair<uint32_t, uint32_t> outside[] = {{0, kSliceGranules + 1},
                                                   {kSliceGranules, 1},
                                                   {kSliceGranules - 1, 2},
                                                   {~0u, 1},
                                                   {1, ~0u},
                                                   {~0u, ~0u}};
  for (const auto& [granule, granules] : outside) {
    EXPECT_TRUE(absl::IsInvalidArgument(Find(granule, granules).status()))
        << granule << ", " << granules;
  }
  DeviceInputs none{DeviceSlice{}};
  header_.input_granule = 0;
  header_.input_granules = 1;
  EXPECT_TRUE(absl::IsInvalidArgument(none.Find(header_).status()));
}

TEST_F(DeviceInputsTest, ASliceThatThisGenerationDoesNotHaveIsRefused) {
  Use("host");
  inputs_.UseDevice({.device = &*device_,
                     .slices_address = region_.address,
                     .slices_bytes = kSlice.offset + kSlice.bytes - 1});
  EXPECT_TRUE(absl::IsFailedPrecondition(Find(0, 1).status()));
  inputs_.UseDevice({});
  EXPECT_TRUE(absl::IsFailedPrecondition(Find(0, 1).status()));
}

TEST_F(DeviceInputsTest, OnTheHostDeviceTheyAreReadInPlace) {
  Use("host");
  const DeviceInputs::Block block = *Find(2, 4);
  const InputPlace places[] = {{.offset = 0, .bytes = 100, .on_device = true},
                               {.offset = 64, .bytes = 8, .on_device = false},
                               {.offset = 128, .bytes = 50, .on_device = true}};
  for (const bool in_place : {false, true}) {
    std::vector<TensorView> views(3);
    ASSERT_TRUE(inputs_.Show(block, places, in_place, views).ok());
    EXPECT_EQ(views[0].bytes.data(), At(block.address));
    EXPECT_EQ(views[0].bytes.size(), 100u);
    EXPECT_TRUE(views[1].bytes.empty()) << "it is not on the device";
    EXPECT_EQ(views[2].bytes.data(), At(block.address + 128));
    EXPECT_EQ(views[0].device_address, 0u);
  }
}

TEST_F(DeviceInputsTest, OnAGpuTheyAreReadThereOrCopied) {
  Use("cuda:3");
  const DeviceInputs::Block block = *Find(2, 4);
  const InputPlace places[] = {{.offset = 0, .bytes = 100, .on_device = true},
                               {.offset = 128, .bytes = 50, .on_device = true}};
  std::vector<TensorView> views(2);
  ASSERT_TRUE(inputs_.Show(block, places, /*in_place=*/true, views).ok());
  EXPECT_TRUE(views[1].bytes.empty());
  EXPECT_EQ(views[1].device_address, block.address + 128);
  EXPECT_EQ(views[1].device_ordinal, 3);

  ASSERT_TRUE(inputs_.Show(block, places, /*in_place=*/false, views).ok());
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(views[i].device_address, 0u);
    EXPECT_EQ(views[i].device_ordinal, -1);
    EXPECT_NE(views[i].bytes.data(), At(block.address + places[i].offset));
    ASSERT_EQ(views[i].bytes.size(), places[i].bytes);
    EXPECT_TRUE(std::equal(views[i].bytes.begin(), views[i].bytes.end(),
                           At(block.address + places[i].offset)));
  }
}

TEST_F(DeviceInputsTest, TheCopiesHaveTheirMemoryFromBefore) {
  Use("cuda:0");
  const DeviceInputs::Block block = *Find(0, 64);
  const InputPlace places[] = {{.offset = 128, .bytes = 4000, .on_device = true}};
  std::vector<TensorView> views(1);
  ASSERT_TRUE(inputs_.Show(block, places, /*in_place=*/false, views).ok());
  const uint64_t before = loader::AllocationsOfThisThread();
  ASSERT_TRUE(inputs_.Show(block, places, /*in_place=*/false, views).ok());
  EXPECT_EQ(loader::AllocationsOfThisThread(), before);
}

}  // namespace
}  // namespace baton::runtime

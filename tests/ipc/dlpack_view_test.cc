#include "baton/dlpack_view.h"

#include <gtest/gtest.h>

#include <array>

namespace baton {
namespace {

TEST(DlpackView, HostTensorsPointAtTheirBytes) {
  const std::array<float, 6> values{1, 2, 3, 4, 5, 6};
  const std::array<int64_t, 2> shape{2, 3};
  const TensorView view{.name = "x",
                        .dtype = DType::kFloat32,
                        .shape = shape,
                        .bytes = std::as_bytes(std::span(values))};
  const DlpackTensor tensor = ToDlpack(view);
  EXPECT_EQ(tensor.data, values.data());
  EXPECT_EQ(tensor.device.type, DlpackDevice::kCpu);
  EXPECT_EQ(tensor.dimensions, 2);
  EXPECT_EQ(tensor.shape[1], 3);
  EXPECT_EQ(tensor.strides, nullptr);
  EXPECT_EQ(tensor.type.code, DlpackType::kFloat);
  EXPECT_EQ(tensor.type.bits, 32);
  EXPECT_EQ(tensor.type.lanes, 1);
  EXPECT_EQ(tensor.byte_offset, 0u);
}

TEST(DlpackView, TensorsOnAGpuNameIt) {
  const std::array<int64_t, 1> shape{4};
  TensorView view{.name = "y", .dtype = DType::kBFloat16, .shape = shape, .bytes = {}};
  view.device_address = 0x7f00'0000'1000;
  view.device_ordinal = 3;
  const DlpackTensor tensor = ToDlpack(view);
  EXPECT_EQ(reinterpret_cast<uint64_t>(tensor.data), 0x7f00'0000'1000u);
  EXPECT_EQ(tensor.device.type, DlpackDevice::kCuda);
  EXPECT_EQ(tensor.device.ordinal, 3);
  EXPECT_EQ(tensor.type.code, DlpackType::kBfloat);
  EXPECT_EQ(tensor.type.bits, 16);
}

TEST(DlpackView, EveryDtypeHasItsWord) {
  EXPECT_EQ(DlpackTypeOf(DType::kBool).code, DlpackType::kBool);
  EXPECT_EQ(DlpackTypeOf(DType::kBool).bits, 8);
  EXPECT_EQ(DlpackTypeOf(DType::kInt8).code, DlpackType::kInt);
  EXPECT_EQ(DlpackTypeOf(DType::kUInt64).code, DlpackType::kUInt);
  EXPECT_EQ(DlpackTypeOf(DType::kUInt64).bits, 64);
  EXPECT_EQ(DlpackTypeOf(DType::kFloat16).code, DlpackType::kFloat);
  EXPECT_EQ(DlpackTypeOf(DType::kFloat64).bits, 64);
}

}  // namespace
}  // namespace baton

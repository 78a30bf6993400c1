// A tensor as DLPack describes one, for frameworks that take such (PyTorch,
// JAX, CuPy, ...): without a copy, and without their header.
//
// The struct has the layout of DLPack 0.2 to 1.x's DLTensor: cast its address.
#ifndef BATON_DLPACK_VIEW_H_
#define BATON_DLPACK_VIEW_H_

#include <cstddef>
#include <cstdint>

#include "baton/tensor.h"

namespace baton {

struct DlpackDevice {
  static constexpr int32_t kCpu = 1;
  static constexpr int32_t kCuda = 2;
  int32_t type = kCpu;
  int32_t ordinal = 0;
};

struct DlpackType {
  static constexpr uint8_t kInt = 0;
  static constexpr uint8_t kUInt = 1;
  static constexpr uint8_t kFloat = 2;
  static constexpr uint8_t kBfloat = 4;
  static constexpr uint8_t kBool = 6;
  uint8_t code = kInt;
  uint8_t bits = 0;
  uint16_t lanes = 1;
};

struct DlpackTensor {
  void* data = nullptr;  // on its device
  DlpackDevice device;
  int32_t dimensions = 0;
  DlpackType type;
  int64_t* shape = nullptr;
  int64_t* strides = nullptr;  // none: dense, row-major
  uint64_t byte_offset = 0;
};
static_assert(sizeof(DlpackTensor) == 48);
static_assert(offsetof(DlpackTensor, device) == 8);
static_assert(offsetof(DlpackTensor, dimensions) == 16);
static_assert(offsetof(DlpackTensor, type) == 20);
static_assert(offsetof(DlpackTensor, shape) == 24);
static_assert(offsetof(DlpackTensor, byte_offset) == 40);

constexpr DlpackType DlpackTypeOf(DType dtype) {
  DlpackType type;
  type.bits = static_cast<uint8_t>(8 * DTypeBytes(dtype));
  switch (dtype) {
    case DType::kBool:
      type.code = DlpackType::kBool;
      break;
    case DType::kUInt8:
    case DType::kUInt16:
    case DType::kUInt32:
    case DType::kUInt64:
      type.code = DlpackType::kUInt;
      break;
    case DType::kFloat16:
    case DType::kFloat32:
    case DType::kFloat64:
      type.code = DlpackType::kFloat;
      break;
    case DType::kBFloat16:
      type.code = DlpackType::kBfloat;
      break;
    default:
      type.code = DlpackType::kInt;
  }
  return type;
}

// Points into `view` and what it views: valid for as long as those are. To be
// read only, although DLPack has no word for that. No cost.
inline DlpackTensor ToDlpack(const TensorView& view) {
  DlpackTensor tensor;
  if (view.device_address != 0) {
    tensor.data = reinterpret_cast<void*>(view.device_address);
    tensor.device = {.type = DlpackDevice::kCuda, .ordinal = view.device_ordinal};
  } else {
    tensor.data = const_cast<std::byte*>(view.bytes.data());
  }
  tensor.dimensions = static_cast<int32_t>(view.shape.size());
  tensor.type = DlpackTypeOf(view.dtype);
  tensor.shape = const_cast<int64_t*>(view.shape.data());
  return tensor;
}

}  // namespace baton

#endif  // BATON_DLPACK_VIEW_H_

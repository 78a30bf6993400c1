// Two kernels of the simulation's own tests.
#ifndef BATON_TESTS_SIMGPU_DEMO_KERNELS_H_
#define BATON_TESTS_SIMGPU_DEMO_KERNELS_H_

#include <cstdint>

#include "ipc/cuda/driver_abi.h"

namespace baton::testing {

// baton_demo_add: adds `summand` to `count` int32.
struct DemoAddArgs {
  ipc::cuda::DevicePtr numbers = 0;
  uint64_t count = 0;
  int32_t summand = 0;
};

// baton_demo_fill: sets `count` bytes.
struct DemoFillArgs {
  ipc::cuda::DevicePtr bytes = 0;
  uint64_t count = 0;
  uint8_t value = 0;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_SIMGPU_DEMO_KERNELS_H_

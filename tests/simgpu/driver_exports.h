// The functions that libcuda.so.1 exports, declared from the table of their
// users: SimMemAlloc has the symbol cuMemAlloc_v2.
#ifndef BATON_TESTS_SIMGPU_DRIVER_EXPORTS_H_
#define BATON_TESTS_SIMGPU_DRIVER_EXPORTS_H_

#include "ipc/cuda/driver_abi.h"

namespace baton::ipc::cuda::sim {

extern "C" {
#define BATON_EXPORT(member, symbol, parameters) \
  __attribute__((visibility("default"))) Result Sim##member parameters __asm__(symbol);
BATON_CUDA_DRIVER_FUNCTIONS(BATON_EXPORT)
#undef BATON_EXPORT
}

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_DRIVER_EXPORTS_H_

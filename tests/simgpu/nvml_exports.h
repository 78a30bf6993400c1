// The functions that libnvidia-ml.so.1 exports, declared from the table of
// their users: SimNvmlInit has the symbol nvmlInit_v2.
#ifndef BATON_TESTS_SIMGPU_NVML_EXPORTS_H_
#define BATON_TESTS_SIMGPU_NVML_EXPORTS_H_

#include "ipc/cuda/nvml_abi.h"

namespace baton::ipc::cuda::sim {

extern "C" {
#define BATON_EXPORT(member, symbol, result, parameters) \
  __attribute__((visibility("default"))) result SimNvml##member parameters __asm__(symbol);
BATON_NVML_FUNCTIONS(BATON_EXPORT)
#undef BATON_EXPORT
}

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_NVML_EXPORTS_H_

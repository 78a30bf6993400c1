#include "kernels/openblas/baton_openblas.h"

#include <cblas.h>

// All else is hidden, OpenBLAS too.
#define BATON_EXPORTED __attribute__((visibility("default")))

extern "C" {

BATON_EXPORTED uint32_t baton_openblas_abi_version(void) { return BATON_OPENBLAS_ABI_VERSION; }

BATON_EXPORTED uint32_t baton_openblas_has_threads(void) {
  return openblas_get_parallel() == OPENBLAS_SEQUENTIAL ? 0 : 1;
}

BATON_EXPORTED void baton_openblas_multiply(const float* input, const float* weights, float* output,
                                            int32_t rows, int32_t inputs, int32_t outputs,
                                            int32_t weights_stride) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, outputs, inputs, 1.0f, input, inputs,
              weights, weights_stride, 1.0f, output, outputs);
}

}  // extern "C"

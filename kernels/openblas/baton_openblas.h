/* The C interface of libbaton_openblas.so: products of matrices by OpenBLAS.
 *
 * A library of its own, which a worker opens at run time and only for layers
 * that gain by it: what it links is large, and is not on every machine.
 *
 * Thread safety: all functions may be called by several threads at once. */
#ifndef BATON_KERNELS_OPENBLAS_BATON_OPENBLAS_H_
#define BATON_KERNELS_OPENBLAS_BATON_OPENBLAS_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with any change of what is declared here. */
#define BATON_OPENBLAS_ABI_VERSION 1u

uint32_t baton_openblas_abi_version(void);

/* Whether OpenBLAS was built to run threads of its own: 1, else 0. */
uint32_t baton_openblas_has_threads(void);

/* output[rows, outputs] += input[rows, inputs] x weights[inputs, weights_stride], float32,
 * row-major, dense but for the weights; no size is 0. Takes memory once, with the first large
 * product. */
void baton_openblas_multiply(const float* input, const float* weights, float* output, int32_t rows,
                             int32_t inputs, int32_t outputs, int32_t weights_stride);

#ifdef __cplusplus
}
#endif

#endif /* BATON_KERNELS_OPENBLAS_BATON_OPENBLAS_H_ */

/* The C interface of libbaton_cublaslt.so: one dense layer by NVIDIA's cuBLASLt.
 *
 * A library of its own, which a worker opens at run time and only where there is
 * a real driver: what it links is large, and is not on every machine.
 *
 * Thread safety: a handle and its plans may be used by several threads at once;
 * creating and destroying them is not to overlap their use.
 * Functions give 0, or cuBLAS's own status (cublasStatus_t). They act on the
 * context that is current to the calling thread. */
#ifndef BATON_KERNELS_CUBLASLT_BATON_CUBLASLT_H_
#define BATON_KERNELS_CUBLASLT_BATON_CUBLASLT_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with any change of what is declared here. */
#define BATON_CUBLASLT_ABI_VERSION 1u

/* As cublasStatus_t has it: there is no algorithm for a shape. */
#define BATON_CUBLASLT_NOT_SUPPORTED 15

typedef struct baton_cublaslt baton_cublaslt;
typedef struct baton_cublaslt_plan baton_cublaslt_plan;

/* output[rows, outputs] = input[rows, inputs] x weights[inputs, stride] + bias[outputs],
 * float32, row-major; no size is 0. */
typedef struct {
  uint64_t rows;
  uint64_t inputs;
  uint64_t outputs;
  uint64_t weights_stride;  /* elements from one row of the weights to the next */
  uint32_t alignment_bytes; /* a power of two that all four addresses are multiples of */
  uint32_t relu;            /* 1: negative outputs become 0 */
} baton_cublaslt_shape;

typedef struct {
  uint64_t input; /* device addresses */
  uint64_t weights;
  uint64_t bias;
  uint64_t output;
} baton_cublaslt_addresses;

uint32_t baton_cublaslt_abi_version(void);

/* What a status means, in English; never NULL. */
const char* baton_cublaslt_status_text(int status);

int baton_cublaslt_create(baton_cublaslt** handle);
void baton_cublaslt_destroy(baton_cublaslt* handle);

/* Chooses the algorithm. It needs no workspace: all device memory of a model is
 * in its arena. Costs some 100 us; to be kept for all calls of that shape. */
int baton_cublaslt_plan_create(baton_cublaslt* handle, const baton_cublaslt_shape* shape,
                               baton_cublaslt_plan** plan);
void baton_cublaslt_plan_destroy(baton_cublaslt_plan* plan);

/* Queues the product on `stream` (a CUstream). */
int baton_cublaslt_run(const baton_cublaslt_plan* plan, const baton_cublaslt_addresses* addresses,
                       void* stream);

#ifdef __cplusplus
}
#endif

#endif /* BATON_KERNELS_CUBLASLT_BATON_CUBLASLT_H_ */

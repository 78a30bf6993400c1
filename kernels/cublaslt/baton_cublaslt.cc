#include "kernels/cublaslt/baton_cublaslt.h"

#include <cublasLt.h>

#include <memory>
#include <new>

// cuBLAS is column-major. A row-major [a, b] matrix is its [b, a] one, so that
// what is computed is the transpose of the whole equation:
//
//   output^T [outputs, rows] = weights^T [outputs, inputs] x input^T [inputs, rows]
//
// with nothing to transpose: the leading dimensions are the rows' strides. The
// bias has one element for each row of output^T, which is what the epilogue adds.

struct baton_cublaslt {
  cublasLtHandle_t handle = nullptr;
};

struct baton_cublaslt_plan {
  cublasLtHandle_t handle = nullptr;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  cublasLtMatrixLayoutOpaque_t weights = {};
  cublasLtMatrixLayoutOpaque_t input = {};
  cublasLtMatrixLayoutOpaque_t output = {};
  cublasLtMatmulAlgo_t algorithm = {};
};

static_assert(BATON_CUBLASLT_NOT_SUPPORTED == CUBLAS_STATUS_NOT_SUPPORTED);

namespace {

// The first failure of a row of calls; those after it are not made.
class Calls {
 public:
  template <class Function, class... Arguments>
  Calls& Then(Function function, Arguments... arguments) {
    if (status_ == CUBLAS_STATUS_SUCCESS) status_ = function(arguments...);
    return *this;
  }
  cublasStatus_t status() const { return status_; }

 private:
  cublasStatus_t status_ = CUBLAS_STATUS_SUCCESS;
};

// Full float32 products: no TF32, whose ten bits of fraction the reference's
// tolerance has no room for.
cublasStatus_t DescribeProduct(cublasLtMatmulDescOpaque_t* product, cublasLtEpilogue_t epilogue,
                               const void* bias) {
  return Calls()
      .Then(cublasLtMatmulDescInit, product, CUBLAS_COMPUTE_32F, CUDA_R_32F)
      .Then(cublasLtMatmulDescSetAttribute, product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
            sizeof(epilogue))
      .Then(cublasLtMatmulDescSetAttribute, product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
            sizeof(bias))
      .status();
}

cublasStatus_t ChooseAlgorithm(uint32_t alignment, baton_cublaslt_plan* plan) {
  // Only the alignment of the bias counts here.
  cublasLtMatmulDescOpaque_t product;
  const void* const aligned = reinterpret_cast<const void*>(static_cast<uintptr_t>(alignment));
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulHeuristicResult_t result = {};
  int results = 0;
  Calls calls;
  calls.Then(DescribeProduct, &product, plan->epilogue, aligned)
      .Then(cublasLtMatmulPreferenceInit, &preference);
  for (const auto which :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    calls.Then(cublasLtMatmulPreferenceSetAttribute, &preference, which, &alignment,
               sizeof(alignment));
  }
  // No workspace is what a preference asks for unless it is told.
  calls.Then(cublasLtMatmulAlgoGetHeuristic, plan->handle, &product, &plan->weights, &plan->input,
             &plan->output, &plan->output, &preference, 1, &result, &results);
  if (calls.status() != CUBLAS_STATUS_SUCCESS) return calls.status();
  if (results == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  plan->algorithm = result.algo;
  return result.state;
}

}  // namespace

uint32_t baton_cublaslt_abi_version(void) { return BATON_CUBLASLT_ABI_VERSION; }

const char* baton_cublaslt_status_text(int status) {
  const char* const text = cublasLtGetStatusString(static_cast<cublasStatus_t>(status));
  return text == nullptr ? "unknown status" : text;
}

int baton_cublaslt_create(baton_cublaslt** handle) {
  std::unique_ptr<baton_cublaslt> made(new (std::nothrow) baton_cublaslt);
  if (made == nullptr) return CUBLAS_STATUS_ALLOC_FAILED;
  const cublasStatus_t status = cublasLtCreate(&made->handle);
  if (status == CUBLAS_STATUS_SUCCESS) *handle = made.release();
  return status;
}

void baton_cublaslt_destroy(baton_cublaslt* handle) {
  if (handle == nullptr) return;
  cublasLtDestroy(handle->handle);
  delete handle;
}

int baton_cublaslt_plan_create(baton_cublaslt* handle, const baton_cublaslt_shape* shape,
                               baton_cublaslt_plan** plan) {
  std::unique_ptr<baton_cublaslt_plan> made(new (std::nothrow) baton_cublaslt_plan);
  if (made == nullptr) return CUBLAS_STATUS_ALLOC_FAILED;
  made->handle = handle->handle;
  made->epilogue = shape->relu != 0 ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  const cublasStatus_t status =
      Calls()
          .Then(cublasLtMatrixLayoutInit, &made->weights, CUDA_R_32F, shape->outputs, shape->inputs,
                static_cast<int64_t>(shape->weights_stride))
          .Then(cublasLtMatrixLayoutInit, &made->input, CUDA_R_32F, shape->inputs, shape->rows,
                static_cast<int64_t>(shape->inputs))
          .Then(cublasLtMatrixLayoutInit, &made->output, CUDA_R_32F, shape->outputs, shape->rows,
                static_cast<int64_t>(shape->outputs))
          .Then(ChooseAlgorithm, shape->alignment_bytes, made.get())
          .status();
  if (status == CUBLAS_STATUS_SUCCESS) *plan = made.release();
  return status;
}

void baton_cublaslt_plan_destroy(baton_cublaslt_plan* plan) { delete plan; }

int baton_cublaslt_run(const baton_cublaslt_plan* plan, const baton_cublaslt_addresses* addresses,
                       void* stream) {
  // Described anew, since the bias's address is part of it: then a plan is const.
  cublasLtMatmulDescOpaque_t product;
  const cublasStatus_t status =
      DescribeProduct(&product, plan->epilogue, reinterpret_cast<const void*>(addresses->bias));
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const float one = 1.0f;
  const float zero = 0.0f;
  void* const output = reinterpret_cast<void*>(addresses->output);
  // The layouts are only read; the interface has no const for them.
  auto* const weights = const_cast<cublasLtMatrixLayoutOpaque_t*>(&plan->weights);
  auto* const input = const_cast<cublasLtMatrixLayoutOpaque_t*>(&plan->input);
  auto* const layout = const_cast<cublasLtMatrixLayoutOpaque_t*>(&plan->output);
  return cublasLtMatmul(plan->handle, &product, &one,
                        reinterpret_cast<const void*>(addresses->weights), weights,
                        reinterpret_cast<const void*>(addresses->input), input, &zero, output,
                        layout, output, layout, &plan->algorithm, /*workspace=*/nullptr,
                        /*workspaceSizeInBytes=*/0, static_cast<cudaStream_t>(stream));
}

// R13: a dense layer by OpenBLAS allocates nothing, neither on the heap nor by mmap, from the first
// request on.
//
// Not built with sanitizers: see heap_counter.h.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

#include "kernels/openblas/open_blas.h"
#include "tests/kernels/dense_layer.h"
#include "tests/kernels/heap_counter.h"

namespace baton::kernels {
namespace {

TEST(OpenBlasCostTest, R13ALayerAllocatesNothing) {
  uint64_t before = testing::HeapCalls();
  const auto open_blas = OpenBlas::LoadFrom(BATON_OPENBLAS_FILE);
  ASSERT_TRUE(open_blas.ok()) << open_blas.status();
  EXPECT_GT(testing::HeapCalls(), before) << "nothing is counted";
  // What fits in registers, in caches, and neither.
  for (const size_t inputs : {128, 512, 2048}) {
    for (const size_t rows : {16, 32, 100}) {
      const cuda::Layer layer(rows, inputs, 300);
      const std::vector<float> packed = layer.PackedWeights();
      std::vector<float> output(rows * layer.outputs);
      before = testing::HeapCalls();
      for (int i = 0; i < 3; ++i) {
        (*open_blas)
            ->MatMulBias({.input = layer.input.data(),
                          .weights = packed.data(),
                          .bias = layer.bias.data(),
                          .output = output.data(),
                          .rows = rows,
                          .inputs = inputs,
                          .outputs = layer.outputs});
      }
      EXPECT_EQ(testing::HeapCalls(), before) << rows << " rows, " << inputs << " inputs";
    }
  }
}

}  // namespace
}  // namespace baton::kernels

// R13: a dense layer by OpenBLAS allocates nothing, neither on the heap nor by mmap, from the first
// request on.
//
// Not built with sanitizers, which replace the same functions.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

#include "kernels/openblas/open_blas.h"
#include "tests/kernels/dense_layer.h"

namespace {
std::atomic<uint64_t> allocations{0};
void Count() { allocations.fetch_add(1, std::memory_order_relaxed); }
}  // namespace

extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

// operator new ends in these, too.
void* malloc(size_t bytes) {
  Count();
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  Count();
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) {
  Count();
  return __libc_realloc(old, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  Count();
  return __libc_memalign(alignment, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  Count();
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  Count();
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}
void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  Count();
  return reinterpret_cast<void*>(
      ::syscall(SYS_mmap, address, bytes, protection, flags, fd, offset));
}
}

namespace baton::kernels {
namespace {

TEST(OpenBlasCostTest, R13ALayerAllocatesNothing) {
  uint64_t before = allocations.load();
  const auto open_blas = OpenBlas::LoadFrom(BATON_OPENBLAS_FILE);
  ASSERT_TRUE(open_blas.ok()) << open_blas.status();
  EXPECT_GT(allocations.load(), before) << "nothing is counted";
  // What fits in registers, in caches, and neither.
  for (const size_t inputs : {128, 512, 2048}) {
    for (const size_t rows : {16, 32, 100}) {
      const cuda::Layer layer(rows, inputs, 300);
      const std::vector<float> packed = layer.PackedWeights();
      std::vector<float> output(rows * layer.outputs);
      before = allocations.load();
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
      EXPECT_EQ(allocations.load(), before) << rows << " rows, " << inputs << " inputs";
    }
  }
}

}  // namespace
}  // namespace baton::kernels

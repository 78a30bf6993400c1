#include "tests/loader/allocation_counter.h"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace baton::loader {
namespace {

thread_local uint64_t allocations = 0;

}  // namespace

uint64_t AllocationsOfThisThread() { return allocations; }

}  // namespace baton::loader

namespace {

void* Allocate(size_t bytes, size_t alignment) {
  ++baton::loader::allocations;
  void* memory = nullptr;
  if (::posix_memalign(&memory, alignment, bytes == 0 ? 1 : bytes) != 0) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The array forms call these.
void* operator new(size_t bytes) { return Allocate(bytes, alignof(std::max_align_t)); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

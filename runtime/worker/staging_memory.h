// Memory in which rows of several requests lie as one tensor.
//
// Thread safety: none; belongs to the serving thread. Grows to the largest that was
// asked for and stays: no allocation for what is no larger than before.
#ifndef BATON_RUNTIME_WORKER_STAGING_MEMORY_H_
#define BATON_RUNTIME_WORKER_STAGING_MEMORY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

namespace baton::runtime {

class StagingMemory {
 public:
  // So much, 128-byte aligned, uninitialised; what it held is lost when it grows, which
  // it does to `most_bytes` at once, where that is a moderate size: what is not used of it
  // costs addresses only. Throws std::bad_alloc.
  std::span<std::byte> Get(uint64_t bytes, uint64_t most_bytes) {
    if (bytes > bytes_) {
      const uint64_t grown = std::max(bytes, std::min(most_bytes, kModerateBytes));
      memory_.reset();
      bytes_ = 0;
      memory_.reset(static_cast<std::byte*>(::operator new(grown, kAlignment)));
      bytes_ = grown;
    }
    return {memory_.get(), bytes};
  }

 private:
  static constexpr uint64_t kModerateBytes = 64 << 20;
  static constexpr std::align_val_t kAlignment{128};
  struct AlignedDelete {
    void operator()(std::byte* bytes) const { ::operator delete(bytes, kAlignment); }
  };
  std::unique_ptr<std::byte, AlignedDelete> memory_;
  uint64_t bytes_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_STAGING_MEMORY_H_

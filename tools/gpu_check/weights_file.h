// Bytes for the weights of weights_model.cc: a file in memory, with no name
// that could be left behind. Any process of this user reaches it, as long as
// this one lives.
//
// Thread safety: immutable once made; any thread.
#ifndef BATON_TOOLS_GPU_CHECK_WEIGHTS_FILE_H_
#define BATON_TOOLS_GPU_CHECK_WEIGHTS_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

#include "ipc/unique_fd.h"

namespace baton::gpu_check {

class WeightsFile {
 public:
  // Every page of it is there and differs from the others. RESOURCE_EXHAUSTED:
  // there is no memory for it.
  static absl::StatusOr<std::unique_ptr<WeightsFile>> Make(uint64_t bytes);
  ~WeightsFile();
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;

  // By which others open it.
  std::string path() const;
  std::span<const std::byte> bytes() const { return {memory_, size_}; }

 private:
  WeightsFile() = default;
  ipc::UniqueFd fd_;
  std::byte* memory_ = nullptr;
  uint64_t size_ = 0;
};

// Host memory that can be had without swapping, by /proc/meminfo; a limit of a
// container's own is not seen. UNAVAILABLE where that does not tell.
absl::StatusOr<uint64_t> AvailableHostBytes();

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_WEIGHTS_FILE_H_

// Host bytes to the device, as fast as the bus takes them.
//
// The driver copies pageable memory through a buffer of its own, one thread,
// about a fifth of what the bus carries; and pinning gigabytes costs a tenth
// of a second each, and slows a later teardown. So a small ring of pinned
// slots: a few threads fill slots from the page cache, and each slot's copy is
// on its way while the next ones are filled.
//
//   slot:  free --(a thread takes the next piece, fills it)--> full
//          full --(its copy is queued on the thread's stream)--> in flight
//          in flight --(the slot's event has come)--> free
//
// Each thread has its own slots, stream and events, so that nothing but the
// counter of pieces is shared.
//
// Thread safety: one upload at a time.
#ifndef BATON_IPC_CUDA_UPLOAD_RING_H_
#define BATON_IPC_CUDA_UPLOAD_RING_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/cuda_context.h"

namespace baton::ipc::cuda {

struct UploadOptions {
  uint64_t slot_bytes = 16 << 20;
  unsigned slots_per_thread = 2;
  unsigned threads = 0;  // 0: one for each CPU that may be used, at most 8
};

class UploadRing {
 public:
  // Fills `to` with the bytes at `offset` of what is uploaded. Called by
  // several threads at once.
  using Fill = std::function<absl::Status(uint64_t offset, std::span<std::byte> to)>;

  // Pins slots * slot_bytes of host memory. RESOURCE_EXHAUSTED: it cannot.
  static absl::StatusOr<std::unique_ptr<UploadRing>> Create(
      std::shared_ptr<const CudaContext> context, const UploadOptions& options = {});
  ~UploadRing();
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;

  // `bytes` of what `fill` gives to the device address `to`. Returns when they
  // are there; after an error some may be.
  absl::Status Upload(DevicePtr to, uint64_t bytes, const Fill& fill);

  uint64_t pinned_bytes() const;

 private:
  struct Slot;
  struct Lane;
  UploadRing(std::shared_ptr<const CudaContext> context, const UploadOptions& options);
  absl::Status AddLane();

  const std::shared_ptr<const CudaContext> context_;
  const UploadOptions options_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_UPLOAD_RING_H_

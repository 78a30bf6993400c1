#include "ipc/cuda/upload_ring.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::ipc::cuda {
namespace {

constexpr unsigned kMostThreads = 8;

unsigned UsableCpus() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
}

// One upload, as its threads share it.
struct Work {
  DevicePtr to = 0;
  uint64_t bytes = 0;
  const UploadRing::Fill* fill = nullptr;
  std::atomic<uint64_t> next_piece{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  absl::Status status;  // the first failure

  void Fail(const absl::Status& why) {
    failed.store(true);
    const std::lock_guard lock(mutex);
    status.Update(why);
  }
};

}  // namespace

struct UploadRing::Slot {
  std::byte* memory = nullptr;
  Event done = nullptr;
  bool in_flight = false;
};

// A thread's part of the ring.
struct UploadRing::Lane {
  explicit Lane(std::shared_ptr<const CudaContext> its_context) : context(std::move(its_context)) {}
  ~Lane() {
    const Driver& driver = context->driver();
    static_cast<void>(context->MakeCurrent());
    // What is in flight reads the slots.
    if (stream != nullptr) static_cast<void>(driver->StreamSynchronize(stream));
    for (const Slot& slot : slots) {
      if (slot.done != nullptr) static_cast<void>(driver->EventDestroy(slot.done));
      if (slot.memory != nullptr) static_cast<void>(driver->MemFreeHost(slot.memory));
    }
    if (stream != nullptr) static_cast<void>(driver->StreamDestroy(stream));
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  absl::Status Prepare(const UploadOptions& options);
  absl::Status Run(Work& work, uint64_t slot_bytes);
  absl::Status Await(Slot& slot) const;

  const std::shared_ptr<const CudaContext> context;
  Stream stream = nullptr;
  std::vector<Slot> slots;
};

absl::Status UploadRing::Lane::Prepare(const UploadOptions& options) {
  const Driver& driver = context->driver();
  absl::Status status =
      driver.ToStatus(driver->StreamCreate(&stream, kStreamNonBlocking), "cuStreamCreate");
  for (unsigned i = 0; i < options.slots_per_thread && status.ok(); ++i) {
    Slot& slot = slots.emplace_back();
    void* memory = nullptr;
    status = driver.ToStatus(driver->MemHostAlloc(&memory, options.slot_bytes, kHostAllocPortable),
                             absl::StrCat("cannot pin ", options.slot_bytes, " bytes"));
    slot.memory = static_cast<std::byte*>(memory);
    if (status.ok()) {
      status =
          driver.ToStatus(driver->EventCreate(&slot.done, kEventDisableTiming), "cuEventCreate");
    }
  }
  return status;
}

absl::Status UploadRing::Lane::Await(Slot& slot) const {
  if (!std::exchange(slot.in_flight, false)) return absl::OkStatus();
  return context->driver().ToStatus(context->driver()->EventSynchronize(slot.done),
                                    "a copy to the device");
}

absl::Status UploadRing::Lane::Run(Work& work, uint64_t slot_bytes) {
  absl::Status status = context->MakeCurrent();
  if (!status.ok()) return status;
  const Driver& driver = context->driver();
  for (size_t turn = 0; !work.failed.load(); ++turn) {
    // Relaxed: pieces are independent of each other.
    const uint64_t offset = work.next_piece.fetch_add(1, std::memory_order_relaxed) * slot_bytes;
    if (offset >= work.bytes) break;
    Slot& slot = slots[turn % slots.size()];
    status = Await(slot);
    if (!status.ok()) return status;
    const uint64_t bytes = std::min(slot_bytes, work.bytes - offset);
    status = (*work.fill)(offset, {slot.memory, bytes});
    if (!status.ok()) return status;
    status = driver.ToStatus(driver->MemcpyHtoDAsync(work.to + offset, slot.memory, bytes, stream),
                             "cuMemcpyHtoDAsync");
    if (!status.ok()) return status;
    status = driver.ToStatus(driver->EventRecord(slot.done, stream), "cuEventRecord");
    if (!status.ok()) return status;
    slot.in_flight = true;
  }
  for (Slot& slot : slots) status.Update(Await(slot));
  return status;
}

UploadRing::UploadRing(std::shared_ptr<const CudaContext> context, const UploadOptions& options)
    : context_(std::move(context)), options_(options) {}
UploadRing::~UploadRing() = default;

absl::Status UploadRing::AddLane() {
  auto lane = std::make_unique<Lane>(context_);
  absl::Status status = lane->Prepare(options_);
  if (status.ok()) lanes_.push_back(std::move(lane));
  return status;
}

absl::StatusOr<std::unique_ptr<UploadRing>> UploadRing::Create(
    std::shared_ptr<const CudaContext> context, const UploadOptions& options) {
  if (options.slot_bytes == 0 || options.slots_per_thread == 0) {
    return absl::InvalidArgumentError("an upload ring needs slots, and bytes in them");
  }
  std::unique_ptr<UploadRing> ring(new UploadRing(std::move(context), options));
  const unsigned threads =
      options.threads != 0 ? options.threads : std::min(UsableCpus(), kMostThreads);
  for (unsigned i = 0; i < threads; ++i) {
    const absl::Status added = ring->AddLane();
    // A ring with less is slower, and that is all.
    if (!added.ok() && ring->lanes_.empty()) return added;
    if (!added.ok()) break;
  }
  return ring;
}

uint64_t UploadRing::pinned_bytes() const {
  return lanes_.size() * options_.slots_per_thread * options_.slot_bytes;
}

absl::Status UploadRing::Upload(DevicePtr to, uint64_t bytes, const Fill& fill) {
  Work work;
  work.to = to;
  work.bytes = bytes;
  work.fill = &fill;
  const auto run = [&](Lane& lane) {
    const absl::Status status = lane.Run(work, options_.slot_bytes);
    if (!status.ok()) work.Fail(status);
  };
  const uint64_t pieces = (bytes + options_.slot_bytes - 1) / options_.slot_bytes;
  std::vector<std::thread> threads;
  for (size_t i = 1; i < lanes_.size() && i < pieces; ++i) {
    try {
      threads.emplace_back([&run, lane = lanes_[i].get()] { run(*lane); });
    } catch (const std::system_error&) {
      break;  // with fewer it is slower, and that is all
    }
  }
  run(*lanes_[0]);
  for (std::thread& thread : threads) thread.join();
  return work.status;
}

}  // namespace baton::ipc::cuda

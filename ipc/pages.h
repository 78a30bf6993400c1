// The two pages beside the channels: what everybody may look at without
// asking anybody.
//
// Thread safety: one writing process each, any number of readers; every field
// is an atomic of its own, so no reader ever sees half a value. Fields that
// must be read together are guarded by `StatusPage::epoch` (see status_changed
// in DESIGN.md). Everything a reader finds here is advice about timing, never
// an address or a size: garbage in a page can delay a front, not break it.
//
//   status page   the supervisor writes; fronts, workers and shmctl read
//   worker page   the worker that serves writes; everybody else reads. It
//                 outlives workers: the next one writes it only after the
//                 one before has been reaped
#ifndef BATON_IPC_PAGES_H_
#define BATON_IPC_PAGES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace baton::ipc {

// What the server is doing; the reload states of the design, and three ends.
enum class ServerState : uint32_t {
  kStarting = 0,  // the first generation is on its way
  kServing = 1,
  kStaging = 2,  // still serving, by the old generation
  kHolding = 3,
  kDraining = 4,
  kClosing = 5,
  kExiting = 6,
  kConfirming = 7,
  kAdmitting = 8,
  kRemapping = 9,
  kUnavailable = 10,  // no generation could be brought up; being retried
  kStopping = 11,
  kStopped = 12,
};
inline constexpr uint32_t kMaxServerState = 12;
// "SERVING"; "UNKNOWN" for a number that is no state. Static storage.
std::string_view ServerStateName(ServerState state);

inline constexpr uint64_t kStatusPageMagic = 0x3173'7574'6174'5342;  // "BStatus1"
inline constexpr uint64_t kWorkerPageMagic = 0x3172'656b'726f'5742;  // "BWorker1"
// Major in the upper half; a reader refuses another major.
inline constexpr uint32_t kPageVersion = 1u << 16;
inline constexpr size_t kPageBytes = 4096;

struct StatusPage {
  uint64_t magic;
  std::atomic<uint32_t> version;  // stored last, when the page is ready

  // Futex word: bumped, then woken, after every change of the fields below.
  alignas(128) std::atomic<uint32_t> epoch;
  std::atomic<uint32_t> state;              // ServerState
  std::atomic<uint64_t> generation;         // the one that serves, or served last
  std::atomic<uint64_t> reaped_generation;  // every generation up to here is confirmed dead
  std::atomic<int64_t> hold_started_ns;     // CLOCK_MONOTONIC; 0 when not holding
  std::atomic<int64_t> expected_gap_ns;     // from measured gaps; 0: none measured
};

struct WorkerPage {
  uint64_t magic;
  std::atomic<uint32_t> version;

  // Futex-free: fronts look at `sleeping` after publishing, and signal the
  // doorbell eventfd when it is set (SYNC: worker_sleeps).
  alignas(128) std::atomic<uint32_t> sleeping;

  alignas(128) std::atomic<uint64_t> generation;
  std::atomic<int64_t> heartbeat_ns;  // CLOCK_MONOTONIC, from inside the serving loop
  // When the running request began, the oldest of several; 0: none runs. A stream that
  // waits for its caller's item does not run.
  std::atomic<int64_t> busy_since_ns;
  std::atomic<uint64_t> taken;      // requests taken, over all generations
  std::atomic<uint64_t> completed;  // answered OK
  std::atomic<uint64_t> failed;     // answered with an error
  std::atomic<uint64_t> expired;    // dropped, deadline passed or cancelled
  // By when the running request was to be answered (as its front says), the earliest
  // of several, stored before busy_since_ns; 0: by no time. Stale while none runs.
  std::atomic<int64_t> busy_deadline_ns;
  // Where the model's config.yaml says `batching`: calls of the model for requests that
  // were gathered, and the rows that they had, over all generations.
  std::atomic<uint64_t> batches;
  std::atomic<uint64_t> batch_rows;
};

static_assert(offsetof(StatusPage, epoch) == 128);
static_assert(offsetof(WorkerPage, sleeping) == 128);
static_assert(offsetof(WorkerPage, generation) == 256);
static_assert(sizeof(StatusPage) <= kPageBytes && sizeof(WorkerPage) <= kPageBytes);
static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

}  // namespace baton::ipc

#endif  // BATON_IPC_PAGES_H_

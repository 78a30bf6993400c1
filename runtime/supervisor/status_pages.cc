#include "runtime/supervisor/status_pages.h"

#include <new>
#include <utility>

#include "ipc/eventfd.h"
#include "ipc/futex.h"

namespace baton::runtime {

namespace {

template <typename Page>
void Publish(std::byte* at, uint64_t magic) {
  auto* page = new (at) Page{};
  page->magic = magic;
  page->version.store(ipc::kPageVersion, std::memory_order_release);
}

absl::StatusOr<ipc::SegmentHandles> CreatePage() {
  return ipc::CreateSegment({.bytes = ipc::kPageBytes, .backing = ipc::SegmentBacking::kMemfd});
}

}  // namespace

absl::StatusOr<StatusPages> StatusPages::Create() {
  StatusPages pages;
  absl::StatusOr<ipc::SegmentHandles> status = CreatePage();
  if (!status.ok()) return status.status();
  absl::StatusOr<ipc::SegmentHandles> worker = CreatePage();
  if (!worker.ok()) return worker.status();
  pages.status_handles_ = *std::move(status);
  pages.worker_handles_ = *std::move(worker);
  const auto map = [](const ipc::SegmentHandles& handles) {
    return ipc::Segment::Map(handles.read_write.get(), ipc::kPageBytes,
                             ipc::SegmentAccess::kReadWrite);
  };
  absl::StatusOr<ipc::Segment> mapped = map(pages.status_handles_);
  if (!mapped.ok()) return mapped.status();
  pages.status_ = *std::move(mapped);
  mapped = map(pages.worker_handles_);
  if (!mapped.ok()) return mapped.status();
  Publish<ipc::WorkerPage>(mapped->data(), ipc::kWorkerPageMagic);
  Publish<ipc::StatusPage>(pages.status_.data(), ipc::kStatusPageMagic);
  // From here on the supervisor only reads the worker page: so does its mapping.
  mapped = ipc::Segment::Map(pages.worker_handles_.read_only.get(), ipc::kPageBytes,
                             ipc::SegmentAccess::kReadOnly);
  if (!mapped.ok()) return mapped.status();
  pages.worker_ = *std::move(mapped);
  absl::StatusOr<ipc::UniqueFd> doorbell = ipc::CreateEventFd();
  if (!doorbell.ok()) return doorbell.status();
  pages.doorbell_ = *std::move(doorbell);
  return pages;
}

// SYNC: status_changed. The fields are stored before the epoch that announces
// them; a reader that sees the epoch sees them.
void StatusPages::Changed() {
  page().epoch.fetch_add(1, std::memory_order_release);
  ipc::FutexWakeAll(&page().epoch);
}

void StatusPages::ShowState(ipc::ServerState state, uint64_t generation) {
  page().generation.store(generation, std::memory_order_release);
  page().state.store(static_cast<uint32_t>(state), std::memory_order_release);
  Changed();
}

void StatusPages::ShowReaped(uint64_t generation) {
  page().reaped_generation.store(generation, std::memory_order_release);
  Changed();
}

void StatusPages::ShowHold(int64_t started_ns) {
  page().hold_started_ns.store(started_ns, std::memory_order_release);
  Changed();
}

void StatusPages::ShowExpectedGap(int64_t gap_ns) {
  page().expected_gap_ns.store(gap_ns, std::memory_order_release);
  Changed();
}

}  // namespace baton::runtime

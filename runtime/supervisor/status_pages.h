// The two pages that a server shows to everybody, and the doorbell.
//
// Thread safety: belongs to the supervisor's one thread. The status page is
// written here and nowhere else; the worker page is only made here (header),
// and read. See ipc/pages.h.
#ifndef BATON_RUNTIME_SUPERVISOR_STATUS_PAGES_H_
#define BATON_RUNTIME_SUPERVISOR_STATUS_PAGES_H_

#include <cstdint>

#include "absl/status/statusor.h"

#include "ipc/pages.h"
#include "ipc/segment.h"
#include "ipc/unique_fd.h"

namespace baton::runtime {

class StatusPages {
 public:
  static absl::StatusOr<StatusPages> Create();

  // Each stores what it says, then wakes whoever waits on the page.
  void ShowState(ipc::ServerState state, uint64_t generation);
  void ShowReaped(uint64_t generation);  // every generation up to here is dead
  void ShowHold(int64_t started_ns);     // 0: it ended
  void ShowExpectedGap(int64_t gap_ns);

  const ipc::StatusPage& status() const {
    return *reinterpret_cast<const ipc::StatusPage*>(status_.data());
  }
  const ipc::WorkerPage& worker() const {
    return *reinterpret_cast<const ipc::WorkerPage*>(worker_.data());
  }

  // For fronts: both read-only.
  int status_fd() const { return status_handles_.read_only.get(); }
  int worker_fd() const { return worker_handles_.read_only.get(); }
  // For workers.
  int worker_fd_writable() const { return worker_handles_.read_write.get(); }
  int doorbell_fd() const { return doorbell_.get(); }

 private:
  StatusPages() = default;
  ipc::StatusPage& page() { return *reinterpret_cast<ipc::StatusPage*>(status_.data()); }
  void Changed();

  ipc::SegmentHandles status_handles_;
  ipc::SegmentHandles worker_handles_;
  ipc::Segment status_;
  ipc::Segment worker_;
  ipc::UniqueFd doorbell_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_STATUS_PAGES_H_

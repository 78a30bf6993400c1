// When a reload was in which state, and when nobody served: a receipt's states
// laid out in time.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_RELOAD_TIMELINE_H_
#define BATON_TOOLS_SHMCTL_RELOAD_TIMELINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ipc/schema/receipt.capnp.h"
#include "ipc/schema/report.capnp.h"

namespace baton::shmctl {

// Offsets are from the receipt's start.
struct ReloadTimeline {
  struct Span {
    std::string state;
    uint64_t start_ns = 0;
    uint64_t ns = 0;
    bool served = true;  // by somebody, the generation before or the next one
  };
  // Each starts where the one before ends. SERVING or STOPPED, in which a reload
  // ends, is not among them.
  std::vector<Span> spans;
  uint64_t total_ns = 0;
  // The states in which nobody served. Equal: somebody always did. A server that
  // was stopped has a gap that lasts to the end.
  uint64_t gap_start_ns = 0;
  uint64_t gap_end_ns = 0;
};

ReloadTimeline TimelineOf(ipc::schema::Receipt::Reader receipt);

void WriteTimeline(ipc::schema::Receipt::Reader receipt,
                   ipc::schema::TimelineReport::Reload::Builder to);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_RELOAD_TIMELINE_H_

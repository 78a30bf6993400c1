// Reloads drawn in a terminal: one lane a reload, one bar a state.
//
//   1 -> 2  command, exclusive: swapped, verdict freed, gap 2.90 ms
//     started       2026-05-01 12:00:01.250, 304 ms
//     STAGING        301 ms  -----------------------------------------------
//     HOLDING       12.0 us                                                 #
//     ...
//     nobody served 2.90 ms                                                 ^^^^^^^
//
// Plain functions, any thread: what they return depends on nothing else than
// what they are given.
#ifndef BATON_TOOLS_SHMCTL_TIMELINE_DRAWING_H_
#define BATON_TOOLS_SHMCTL_TIMELINE_DRAWING_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "ipc/schema/receipt.capnp.h"

namespace baton::shmctl {

struct DrawingStyle {
  size_t width = 80;  // cells; at least 40
  bool colours = false;
  bool utf8 = false;  // else ASCII only
  absl::TimeZone zone = absl::UTCTimeZone();
};

// In the order given, with a line at the end that says what the bars mean.
// Within a lane, bars are in proportion to time, but none is shorter than a
// cell, so that a state of 0.2 ms is seen beside one of 300 ms.
std::string DrawTimeline(const std::vector<ipc::schema::Receipt::Reader>& receipts,
                         const DrawingStyle& style);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_TIMELINE_DRAWING_H_

#include "tools/shmctl/reload_timeline.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

// Whether the generation before may still serve in this state, if nothing went
// wrong. With overlap the successor is brought up meanwhile.
bool MayServe(std::string_view state, bool overlap) {
  if (state == "STAGING" || state == "SERVING") return true;
  return overlap && (state == "ADMITTING" || state == "REMAPPING");
}

bool IsEnd(std::string_view state) { return state == "SERVING" || state == "STOPPED"; }

// In which state a gap ended that began with `first`. It does with DRAINING, when
// the successor serves: is it as long as that, but for a tenth (measuring, and
// changing states)? Else, as when the one before died, in the one whose end is
// nearest.
size_t LastOfGap(const ReloadTimeline& timeline, size_t first, uint64_t gap_ns) {
  size_t nearest = first;
  uint64_t distance = UINT64_MAX;
  for (size_t i = first; i < timeline.spans.size(); ++i) {
    const ReloadTimeline::Span& span = timeline.spans[i];
    const uint64_t lasted = span.start_ns + span.ns - timeline.spans[first].start_ns;
    const uint64_t away = lasted > gap_ns ? lasted - gap_ns : gap_ns - lasted;
    if (span.state == "DRAINING" && away <= gap_ns / 10) return i;
    if (away >= distance) continue;
    nearest = i;
    distance = away;
  }
  return nearest;
}

}  // namespace

ReloadTimeline TimelineOf(schema::Receipt::Reader receipt) {
  ReloadTimeline timeline;
  for (const schema::Receipt::StateTime::Reader state : receipt.getStates()) {
    // Whatever somebody has written into the file: no sum of spans wraps.
    const uint64_t ns = std::min(state.getNs(), UINT64_MAX - timeline.total_ns);
    timeline.spans.push_back({state.getState(), timeline.total_ns, ns});
    timeline.total_ns += ns;
  }
  // Where it ended, entered as the receipt was closed.
  if (!timeline.spans.empty() && IsEnd(timeline.spans.back().state)) {
    timeline.total_ns -= timeline.spans.back().ns;
    timeline.spans.pop_back();
  }
  const bool overlap = receipt.getStrategy() == "overlap";
  size_t first = 0;
  while (first < timeline.spans.size() && MayServe(timeline.spans[first].state, overlap)) ++first;
  const bool stopped = receipt.getOutcome() == "stopped";
  // Without a gap somebody served: overlap also retires a successor that failed
  // in these states, while the one before serves on.
  if (first == timeline.spans.size() || (receipt.getGapNs() == 0 && !stopped)) return timeline;
  const size_t last = overlap && !stopped ? LastOfGap(timeline, first, receipt.getGapNs())
                                          : timeline.spans.size() - 1;
  for (size_t i = first; i <= last; ++i) timeline.spans[i].served = false;
  timeline.gap_start_ns = timeline.spans[first].start_ns;
  timeline.gap_end_ns = timeline.spans[last].start_ns + timeline.spans[last].ns;
  return timeline;
}

void WriteTimeline(schema::Receipt::Reader receipt, schema::TimelineReport::Reload::Builder to) {
  const ReloadTimeline timeline = TimelineOf(receipt);
  to.setGeneration(receipt.getGeneration());
  to.setSuccessor(receipt.getSuccessor());
  to.setTrigger(receipt.getTrigger());
  to.setStrategy(receipt.getStrategy());
  to.setOutcome(receipt.getOutcome());
  to.setReason(receipt.getReason());
  to.setVerdict(receipt.getVerdict());
  to.setOverridden(receipt.getOverridden());
  to.setStartedUnixMs(receipt.getStartedUnixMs());
  to.setNs(timeline.total_ns);
  to.setGapStartNs(timeline.gap_start_ns);
  to.setGapEndNs(timeline.gap_end_ns);
  to.setGapNs(receipt.getGapNs());
  auto states = to.initStates(static_cast<uint32_t>(timeline.spans.size()));
  for (uint32_t i = 0; i < states.size(); ++i) {
    states[i].setState(timeline.spans[i].state);
    states[i].setStartNs(timeline.spans[i].start_ns);
    states[i].setNs(timeline.spans[i].ns);
    states[i].setServed(timeline.spans[i].served);
  }
}

}  // namespace baton::shmctl

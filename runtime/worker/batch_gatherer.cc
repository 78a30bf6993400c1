#include "runtime/worker/batch_gatherer.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace baton::runtime {
namespace {

// How many channels are asked between two looks for what else has to be done: some microseconds.
constexpr size_t kLooksBetween = 64;

}  // namespace

void BatchDuration::Observe(int64_t took_ns) {
  took_ns = std::max<int64_t>(took_ns, 1);
  expected_ns_ = std::max(took_ns, expected_ns_ - (expected_ns_ - took_ns) / 8);
}

int64_t BatchGatherer::RunBy(int64_t first_ns, int64_t earliest_deadline_ns) const {
  const int64_t by = first_ns + max_delay_ns_;
  if (earliest_deadline_ns == 0) return by;
  // Before it is known what a batch takes half of the time is left to it.
  if (!duration_.known()) return std::min(by, first_ns + (earliest_deadline_ns - first_ns) / 2);
  return std::min(by, earliest_deadline_ns - duration_.expected_ns());
}

bool BatchGatherer::Turn(BatchSource& source, loader::Model& model, ServingHost& host,
                         ipc::WorkerPage& page) {
  const bool took = Gather(source, model, page);
  if (batch_.empty()) return took;
  const int64_t begun_ns = source.NowNs();
  const bool ran = batch_.Run(model, host, page, begun_ns);
  const int64_t ended_ns = source.NowNs();
  if (ran) duration_.Observe(ended_ns - begun_ns);
  // Relaxed: advice about timing.
  page.heartbeat_ns.store(ended_ns, std::memory_order_relaxed);
  return true;
}

bool BatchGatherer::Gather(BatchSource& source, loader::Model& model, ipc::WorkerPage& page) {
  bool took = false;
  bool look = true;  // whether something else has to be done first
  size_t looks_left = kLooksBetween;
  size_t channels = 0;
  size_t quiet = 0;             // channels in a row of which nothing joined
  std::optional<size_t> waits;  // the first channel whose request has to wait for the next batch
  int64_t now = source.NowNs();
  int64_t first_ns = now;
  while (!batch_.full()) {
    if (look || --looks_left == 0) {
      if (source.interrupted()) break;
      channels = source.channels();
      looks_left = kLooksBetween;
      look = false;
    }
    if (quiet >= channels) {
      // A whole round. Without a batch others have their turn.
      if (batch_.empty() || waits || max_delay_ns_ == 0 || !source.may_wait()) break;
      const int64_t run_by = RunBy(first_ns, batch_.earliest_deadline_ns());
      now = source.NowNs();
      if (now >= run_by) break;
      source.AwaitRequest(run_by);
      now = source.NowNs();
      quiet = 0;
      look = true;
      continue;
    }
    ChannelServer* const channel = source.Next();
    const ChannelServer::Gathered gathered = channel == nullptr
                                                 ? ChannelServer::Gathered::kNothing
                                                 : channel->Gather(batch_, model, page, now);
    ++quiet;
    switch (gathered) {
      case ChannelServer::Gathered::kNothing:
        break;
      case ChannelServer::Gathered::kServed:
        took = true;
        // It may have taken long, or waited.
        now = source.NowNs();
        look = true;
        break;
      case ChannelServer::Gathered::kWaits:
        if (!waits) waits = source.last();
        break;
      case ChannelServer::Gathered::kJoined:
        took = true;
        quiet = 0;
        if (batch_.requests() == 1) first_ns = now;
        break;
    }
  }
  if (waits) source.SetNext(*waits);
  return took;
}

}  // namespace baton::runtime

// `Fronts/<n>`: one worker that several services call at once, each a process of
// its own.
#ifndef BATON_BENCH_FRONT_PROCESSES_H_
#define BATON_BENCH_FRONT_PROCESSES_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/front.h"
#include "bench/peers/peer.h"
#include "bench/subject.h"

namespace baton::bench {

struct FrontProcessesSetup {
  int fronts = 1;
  int channels_of_each = 1;
  int in_flight_on_each = 1;  // requests, on each channel
  std::vector<int> cpus;      // that they are pinned to, in turn; not empty
};

// Starts the processes; they attach to `front`'s server, and this one only counts.
// Operations are requests that were answered; there are no latencies.
absl::StatusOr<std::unique_ptr<Subject>> MakeFrontProcesses(const Front& front,
                                                            const FrontProcessesSetup& setup);

// What such a process does: this program once more. It has no rows of its own.
PeerKind FrontProcessKind();

}  // namespace baton::bench

#endif  // BATON_BENCH_FRONT_PROCESSES_H_

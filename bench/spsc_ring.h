// What two bare rings give: an entry there and one back, many in flight, two
// processes on two cores, and nothing else.
#ifndef BATON_BENCH_SPSC_RING_H_
#define BATON_BENCH_SPSC_RING_H_

#include <sys/types.h>

#include <cstdint>

#include "ipc/channel_layout.h"
#include "ipc/ring.h"

namespace baton::bench {

// Starts the other process, on `peer_cpu`, which sends back what it takes; ends
// it with the object.
class SpscRing {
 public:
  SpscRing(int peer_cpu, uint32_t in_flight);
  ~SpscRing();
  SpscRing(const SpscRing&) = delete;
  SpscRing& operator=(const SpscRing&) = delete;

  bool ok() const { return lines_ != nullptr && peer_ > 0; }
  // Takes `count` entries, and sends one for each: as many as there are at a time.
  void Exchange(uint32_t count);

 private:
  static constexpr uint32_t kEntries = 256;
  struct Lines {
    alignas(128) ipc::SubmissionEntry there[kEntries];
    alignas(128) ipc::SubmissionEntry back[kEntries];
  };
  [[noreturn]] void Echo();
  void Send();

  Lines* lines_ = nullptr;
  pid_t peer_ = -1;
  uint64_t sent_ = 0;
  ipc::RingProducer<ipc::SubmissionEntry> there_;
  ipc::RingConsumer<ipc::SubmissionEntry> back_;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_SPSC_RING_H_

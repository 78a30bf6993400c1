// The floor: two processes on two cores that pass a number through shared
// cache lines and do nothing else.
#ifndef BATON_BENCH_PING_PONG_H_
#define BATON_BENCH_PING_PONG_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "ipc/spin_budget.h"

namespace baton::bench {

// Starts the other process, on `peer_cpu`; ends it with the object.
class PingPong {
 public:
  explicit PingPong(int peer_cpu);
  ~PingPong();
  PingPong(const PingPong&) = delete;
  PingPong& operator=(const PingPong&) = delete;

  bool ok() const { return lines_ != nullptr && peer_ > 0; }
  // One round trip: writes one line, waits for the answer in the other.
  void Round() {
    ++value_;
    lines_->ping.store(value_, std::memory_order_release);
    // With a pause: who looks without one takes the line from its writer too early, and the floor
    // is a third higher, and another one in each build.
    while (lines_->pong.load(std::memory_order_acquire) != value_) ipc::SpinPause();
  }

 private:
  struct Lines {
    alignas(128) std::atomic<uint64_t> ping;
    alignas(128) std::atomic<uint64_t> pong;
  };

  Lines* lines_ = nullptr;
  pid_t peer_ = -1;
  uint64_t value_ = 0;
};

// Keeps the calling thread on one CPU. False when it may not run there.
bool PinThisThread(int cpu);
// The same for another process's main thread.
bool PinProcess(pid_t pid, int cpu);

}  // namespace baton::bench

#endif  // BATON_BENCH_PING_PONG_H_

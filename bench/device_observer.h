// How much device memory a server's processes hold, seen from outside: the
// pages of every arena (memfd) that the supervisor or one of its children has a
// descriptor of, as the kernel counts them. What is mapped only, or by anybody
// else (a front that has closed the descriptor), does not show here.
#ifndef BATON_BENCH_DEVICE_OBSERVER_H_
#define BATON_BENCH_DEVICE_OBSERVER_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace baton::bench {

// Looks every half a millisecond from a thread of its own, while it lives.
class DeviceObserver {
 public:
  explicit DeviceObserver(pid_t supervisor);
  ~DeviceObserver();
  DeviceObserver(const DeviceObserver&) = delete;
  DeviceObserver& operator=(const DeviceObserver&) = delete;

  // The most that was held at one time. Any thread.
  uint64_t peak_bytes() const { return peak_bytes_.load(); }
  uint64_t samples() const { return samples_.load(); }

 private:
  void Look();
  const pid_t supervisor_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> peak_bytes_{0};
  std::atomic<uint64_t> samples_{0};
  std::thread thread_;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_DEVICE_OBSERVER_H_

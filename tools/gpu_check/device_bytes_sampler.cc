#include "tools/gpu_check/device_bytes_sampler.h"

#include <algorithm>

#include "tools/gpu_check/samples.h"

namespace baton::gpu_check {

DeviceBytesSampler::DeviceBytesSampler(const GpuView& gpu, std::chrono::microseconds interval)
    : gpu_(gpu), interval_(interval), thread_([this] { Run(); }) {}

DeviceBytesSampler::~DeviceBytesSampler() {
  stop_.store(true);
  thread_.join();
}

void DeviceBytesSampler::Run() {
  auto next = Stopwatch::Clock::now();
  auto last = next;
  while (!stop_.load()) {
    const auto memory = gpu_.nvml().MemoryOf(gpu_.nvml_device());
    const auto now = Stopwatch::Clock::now();
    if (memory.ok()) {
      peak_.store(std::max(peak_.load(), memory->total_bytes - memory->free_bytes));
      samples_.fetch_add(1);
    } else {
      failures_.fetch_add(1);
    }
    longest_gap_ns_.store(std::max(longest_gap_ns_.load(),
                                   std::chrono::duration<double, std::nano>(now - last).count()));
    last = now;
    // No burst to catch up after a slow call.
    next = std::max(next + interval_, now);
    std::this_thread::sleep_until(next);
  }
}

}  // namespace baton::gpu_check

// The times from an exporter's SIGKILL until its memory is back, as each of
// those sees it whom a supervisor may ask.
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "ipc/poll_fd.h"
#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(30);
using Clock = Stopwatch::Clock;

// Looks again and again, from a thread of its own, until it is so.
class Observer {
 public:
  explicit Observer(std::function<bool()> is_so)
      : is_so_(std::move(is_so)), thread_([this] { Run(); }) {}
  ~Observer() {
    stop_.store(true);
    if (thread_.joinable()) thread_.join();
  }
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

  // Waits. nullopt: it was not so within kLimit.
  std::optional<Clock::time_point> Seen() {
    thread_.join();
    return seen_;
  }
  // Of one look, after Seen.
  double longest_look_ns() const { return longest_look_ns_; }

 private:
  void Run() {
    const absl::Time deadline = absl::Now() + kLimit;
    while (!stop_.load() && absl::Now() < deadline) {
      const Stopwatch look;
      const bool so = is_so_();
      longest_look_ns_ = std::max(longest_look_ns_, look.Nanoseconds());
      if (so) {
        seen_ = Clock::now();
        return;
      }
    }
  }

  const std::function<bool()> is_so_;
  std::atomic<bool> stop_{false};
  double longest_look_ns_ = 0;
  std::optional<Clock::time_point> seen_;
  std::thread thread_;
};

struct Times {
  Samples pidfd, reaped, unlisted, free, longest_look;
};

absl::Status OneDeath(const Settings& settings, const GpuView& gpu, uint64_t bytes, Times& times) {
  absl::Status status;
  const uint64_t before = Take(status, gpu.SettledFreeBytes());
  Peer exporter = Peer::StartWithContext(settings.device);
  const uint64_t address = exporter.Do({.verb = Verb::kAllocate, .bytes = bytes}).values[0];
  exporter.Do({.verb = Verb::kFill, .value = 1, .address = address, .bytes = bytes});
  exporter.Do({.verb = Verb::kExport, .address = address});
  status.Update(exporter.status());
  const uint64_t during = Take(status, gpu.SettledFreeBytes());
  const bool listed = Take(status, gpu.Lists(exporter.pid()));
  if (!status.ok()) return status;
  if (during + bytes > before) {
    return absl::InternalError(
        absl::StrCat("NVML's free did not fall by the ", bytes, " bytes that were allocated"));
  }

  const pid_t pid = exporter.pid();
  const int pidfd = exporter.process().pidfd();
  // All of the arena, and what of the context is not kept by the driver: less than this slack.
  const uint64_t slack = bytes / 8;
  Observer ended([pidfd] { return ipc::PollFd(pidfd, POLLIN, absl::Seconds(1)); });
  Observer unlisted([&gpu, pid, listed] {
    const absl::StatusOr<bool> lists = gpu.Lists(pid);
    return !listed || (lists.ok() && !*lists);
  });
  Observer free([&gpu, before, slack] {
    const absl::StatusOr<uint64_t> now = gpu.FreeBytes();
    return now.ok() && *now + slack >= before;
  });
  const Clock::time_point start = Clock::now();
  status = exporter.process().Kill(SIGKILL);
  status.Update(exporter.process().Reap(kLimit).status());
  const Clock::time_point reaped = Clock::now();
  const auto add = [start](std::optional<Clock::time_point> at, Samples& to) {
    if (at) to.Add(std::chrono::duration<double, std::nano>(*at - start).count());
  };
  add(ended.Seen(), times.pidfd);
  add(reaped, times.reaped);
  const auto unlisted_at = unlisted.Seen();
  if (listed) add(unlisted_at, times.unlisted);
  const auto free_at = free.Seen();
  add(free_at, times.free);
  times.longest_look.Add(std::max(unlisted.longest_look_ns(), free.longest_look_ns()));
  if (!free_at) {
    status.Update(absl::DeadlineExceededError(absl::StrCat(
        "memory was not back ", absl::FormatDuration(kLimit), " after SIGKILL, with no importer")));
  }
  return status;
}

}  // namespace

absl::Status MeasureKilledExporter(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  const uint64_t bytes = settings.Bytes(uint64_t{1} << 30);
  Times times;
  absl::Status status;
  for (uint32_t i = 0; i < (settings.small ? 2u : 5u) && status.ok(); ++i) {
    status = OneDeath(settings, *gpu, bytes, times);
  }
  const std::string of = absl::StrCat("an exporter with ", bytes >> 20, " MiB, no importer");
  report.Times("SIGKILL to pidfd readable", times.pidfd, "ms", of);
  report.Times("SIGKILL to reaped", times.reaped, "ms");
  if (times.unlisted.count() > 0) {
    report.Times("SIGKILL to gone from NVML's list", times.unlisted, "ms");
  } else {
    report.Skipped("SIGKILL to gone from NVML's list", "NVML does not show our processes here");
  }
  report.Times("SIGKILL to memory free", times.free, "ms");
  report.Times("longest call of NVML meanwhile", times.longest_look, "ms");
  report.Fact("the memory of a killed exporter is freed when nobody maps it", status.ok(),
              std::string(status.message()));
  if (times.pidfd.count() > 0 && times.free.count() > 0) {
    // What makes a confirmation necessary: the end of the process is not the end of its memory.
    // Either order is possible, so that this says which, and contradicts nothing.
    report.Measured("memory free, less reaped", (times.free.Median() - times.reaped.Median()) / 1e6,
                    "ms", "of the medians");
  }
  return status;
}

}  // namespace baton::gpu_check
